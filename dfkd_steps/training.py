"""Training a network: optimiser, schedule, epochs, exact resumption. What teacher and student have in common."""

import csv
import hashlib
import io
import math
import os
import time

import torch

from . import progress, runtime
from .errors import UserError

CHECKPOINT_EVERY = 20.0  # seconds; an epoch that ends later than this after the last checkpoint writes one


def optimizer(net, config):
    """The optimiser of a ``Training`` config; weight decay on parameters of two or more dimensions only."""
    weights = [p for p in net.parameters() if p.ndim >= 2]
    others = [p for p in net.parameters() if p.ndim < 2]
    groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True, fused=True)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(groups, lr=config.lr, fused=True)


def rate(config, step: int, total: int) -> float:
    """The learning rate at ``step`` of ``total``: half a cosine; or a triangle with its peak at one fifth; or constant."""
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * step / total))
    if config.schedule == "onecycle":
        peak = 0.2 * total
        return config.lr * min((step + 1) / peak, (total - step) / (total - peak))
    return config.lr


def fit(net, config, steps_per_epoch: int, loss_of, partial, key: str, device, name: str) -> list[dict]:
    """Train ``net`` in place; returns the history, one row an epoch: epoch, loss, lr.

    ``loss_of(generator, epoch)`` yields one loss a step; the generator is seeded by (name, seed, epoch), so that an
    epoch depends on nothing but the state before it. The state is kept in ``partial`` from time to time, with the key.
    """
    optimise = optimizer(net, config)
    history = _restore(partial, key, net, optimise)
    total, saved = config.epochs * steps_per_epoch, time.monotonic()
    with progress.bar(total=config.epochs, initial=len(history), desc=name, unit="epoch") as shown:
        for epoch in range(len(history), config.epochs):
            net.train()
            generator = runtime.generator(device, name, config.seed, epoch)
            torch.manual_seed(runtime.seed_of(name, config.seed, epoch, "dropout"))
            losses = torch.zeros((), device=device)
            for step, loss in enumerate(loss_of(generator, epoch), epoch * steps_per_epoch):
                for group in optimise.param_groups:
                    group["lr"] = rate(config, step, total)
                optimise.zero_grad()
                loss.backward()
                if config.clip:
                    torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip)
                optimise.step()
                losses += loss.detach()
            mean = losses.item() / steps_per_epoch
            if not math.isfinite(mean):
                raise UserError(f"{name}: the loss is {mean} in epoch {epoch + 1}; lower lr (now {config.lr}) or set clip")
            history.append({"epoch": epoch + 1, "loss": round(mean, 6), "lr": round(optimise.param_groups[0]["lr"], 8)})
            shown.set_postfix_str(f"loss {mean:.4f}")
            shown.update()
            if time.monotonic() - saved > CHECKPOINT_EVERY and epoch + 1 < config.epochs:
                _save(partial, key, net, optimise, history)
                saved = time.monotonic()
    net.eval()
    return history


def _save(partial, key, net, optimise, history):
    beside = f"{partial}.next"
    torch.save({"key": key, "net": net.state_dict(), "optimizer": optimise.state_dict(), "history": history}, beside)
    os.replace(beside, partial)


def _restore(partial, key, net, optimise):
    if not partial.is_file():
        return []
    try:
        kept = torch.load(partial, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a truncated file makes torch raise, the answer is to start over
        progress.say(f"{partial}: not usable ({type(error).__name__}), starting over")
        return []
    if not isinstance(kept, dict) or kept.get("key") != key:
        progress.say(f"{partial}: was left by another configuration or other code, starting over")
        return []
    net.load_state_dict(kept["net"])
    optimise.load_state_dict(kept["optimizer"])
    progress.say(f"resumes after epoch {len(kept['history'])}")
    return kept["history"]


def order(number: int, batch: int, generator, steps: int = 0, weights=None):
    """Index tensors of one epoch. One pass in random order, the odd rest left out; or ``steps`` steps; or by weight."""
    device = generator.device
    size = min(batch, number)
    steps = steps or number // size
    if weights is not None:
        drawn = torch.multinomial(weights, steps * size, replacement=True, generator=generator)
    else:
        passes = -(-steps * size // number)
        drawn = torch.cat([torch.randperm(number, generator=generator, device=device) for _ in range(passes)])
    return drawn[: steps * size].split(size)


def history_csv(history: list[dict]) -> bytes:
    """The history as CSV, with its header even when empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, ["epoch", "loss", "lr"], lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    return text.getvalue().encode()


def sha256(content: bytes) -> str:
    """Hex digest; a network's metadata holds that of its history.csv, which cannot carry a key itself."""
    return hashlib.sha256(content).hexdigest()


def to_float(images):
    """Stored images (N,C,H,W), uint8 or float, as float32 in [0,1], channels_last."""
    scaled = images.float().div_(255) if images.dtype == torch.uint8 else images.float()
    return scaled.contiguous(memory_format=torch.channels_last)
