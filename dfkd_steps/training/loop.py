"""Training a network: optimiser, schedule, epochs, exact resumption. What teacher and student have in common."""

import math

import torch

from ..runtime import event_files, progress
from ..runtime.device import compiled, next_step
from ..runtime.errors import UserError
from ..runtime.seeds import make_rng, seed_of
from ..storage import checkpoint


def optimizer(net, config):
    """The optimiser of a ``Training`` config; weight decay on parameters of two or more dimensions only.

    soap: Adam in the eigenbasis of Shampoo's preconditioner (arXiv 2409.11321); a student needs a quarter of Adam's steps.
    """
    weights = [p for p in net.parameters() if p.ndim >= 2]
    others = [p for p in net.parameters() if p.ndim < 2]
    groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True, fused=True)
    if config.optimizer == "soap":
        from pytorch_optimizer import SOAP  # importing it takes two seconds

        return SOAP(groups, lr=config.lr)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(groups, lr=config.lr, fused=True)


def rate(config, step: int, total: int) -> float:
    """The learning rate at ``step`` of ``total``: half a cosine; or a triangle with its peak at one fifth; or constant."""
    if config.schedule == "cosine":
        return half_cosine(config.lr, step / total)
    if config.schedule == "onecycle":
        peak = 0.2 * total
        return config.lr * min((step + 1) / peak, (total - step) / (total - peak), 1.0)
    return config.lr


def half_cosine(lr: float, progress: float) -> float:
    """From ``lr`` at progress 0 down to 0 at progress 1."""
    return lr * 0.5 * (1 + math.cos(math.pi * progress))


def fit(net, config, steps_per_epoch: int, loss_of, partial, key: str, device, name: str, parts=None, ended=None) -> list[dict]:
    """Train ``net`` in place; returns the history, one row an epoch: epoch, loss, lr and what ``ended`` adds.

    ``loss_of(rng, epoch)`` yields one loss a step; the random generator is seeded by (name, seed, epoch), so that an epoch
    depends on nothing but the state before it. The state is kept in ``partial`` from time to time, with the key.
    ``parts``: by name what else training changes; each has state() and restore(state). ``ended(epoch) -> dict`` is called after
    each epoch, the network in eval mode.
    """
    optimise, parts = optimizer(compiled(net), config), parts or {}
    with checkpoint.opened(partial, key) as state:
        history = _restore(state, net, optimise, parts)
    total, pace = config.epochs * steps_per_epoch, checkpoint.Pace()
    with progress.bar(total=total, initial=len(history) * steps_per_epoch, desc=name, unit="step") as bar:
        for epoch in range(len(history), config.epochs):
            loss_before = f", loss {history[-1]['loss']:.4f}" if history else ""
            bar.set_postfix_str(f"epoch {epoch + 1} of {config.epochs}{loss_before}", refresh=False)
            net.train()
            rng = make_rng(device, name, config.seed, epoch)
            torch.manual_seed(seed_of(name, config.seed, epoch, "dropout"))
            losses = torch.zeros((), device=device)
            for step, loss in enumerate(loss_of(rng, epoch), epoch * steps_per_epoch):
                advance(net, optimise, loss, rate(config, step, total), config.clip)
                losses += loss.detach()
                bar.update()
            mean = losses.item() / steps_per_epoch
            if not math.isfinite(mean):
                raise UserError(f"{name}: the loss is {mean} in epoch {epoch + 1}; lower lr (now {config.lr}) or set clip")
            net.eval()
            extra = ended(epoch) if ended else {}
            row = {"epoch": epoch + 1, "loss": round(mean, 6), "lr": round(optimise.param_groups[0]["lr"], 8)}
            history.append({**row, **extra})
            event_files.add(epoch + 1, {name: value for name, value in history[-1].items() if name != "epoch"})
            if epoch + 1 < config.epochs and pace.due():
                state = checkpoint.state_of(net, optimise)
                states = {part_name: part.state() for part_name, part in parts.items()}
                pace.save(partial, key, **state, parts=states, history=history)
    net.eval()
    return history


def advance(net, optimise, loss, lr: float, clip: float = 0.0):
    """One step of an optimiser down the gradient of a loss; ``clip``: largest gradient norm (0 = no limit)."""
    for group in optimise.param_groups:
        group["lr"] = lr
    optimise.zero_grad()
    loss.backward()
    if clip:
        torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
    try:
        optimise.step()
    except torch.linalg.LinAlgError:  # SOAP's, of gradients that are not finite
        raise UserError(
            f"the loss is {loss.item():.4g}, its gradients not finite; lower the learning rate, or set clip"
        ) from None
    next_step()


def _restore(state, net, optimise, parts) -> list[dict]:
    if state is None:
        return []
    checkpoint.restore(net, optimise, state)
    for name, part in parts.items():
        part.restore(state["parts"][name])
    progress.say(f"resumes after epoch {len(state['history'])}")
    return state["history"]


def order(number: int, batch: int, rng, steps: int = 0, weights=None):
    """Index tensors of one epoch. One pass in random order, the odd rest left out; or ``steps`` steps; or by weight."""
    device = rng.device
    size = min(batch, number)
    steps = steps or number // size
    if weights is not None:
        drawn = torch.multinomial(weights, steps * size, replacement=True, generator=rng)
    else:
        passes = -(-steps * size // number)
        drawn = torch.cat([torch.randperm(number, generator=rng, device=device) for _ in range(passes)])
    return drawn[: steps * size].split(size)
