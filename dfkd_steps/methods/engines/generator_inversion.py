"""Images of a generator that is optimised for one batch: a new one for each (CMI), one that is meta-learnt (Fast, SSD-KD), or one
that lives for some rounds (NAYER)."""

import copy

import torch

from ...models.generator import build_generator
from ...runtime.device import autocast, compiled, next_step
from ...storage import checkpoint
from .objective import require_finite


def new_generator(config, teacher, seed: int, device):
    """A freshly initialised generator in train mode, of ``latent`` and ``width``."""
    generator = build_generator(teacher.description, latent=config.latent, width=config.width, arch="cmi", seed=seed)
    return generator.to(device, memory_format=torch.channels_last).train()


def renewed(generator, other):
    """A generator with the weights of another one: one object for all batches, as another object would be compiled again."""
    generator.load_state_dict(other.state_dict())
    return generator


def refine(generator, latent, loss_of, *, steps: int, lr_g: float, lr_z: float, precision: str, after=None, latents=None):
    """Optimise generator and latent vectors (N,Z) together for ``steps`` Adam steps; returns the images of the step with the
    least loss, detached.

    loss_of(images) -> scalar. after(step): called with gradients in place. latents: a list that gets those of that step.
    """
    latent = latent.clone().requires_grad_()
    groups = [{"params": generator.parameters(), "lr": lr_g}, {"params": [latent], "lr": lr_z}]
    how = {"steps": steps, "precision": precision, "device": latent.device, "after": after, "rates": "lr_g and lr_z"}
    images, kept = descend(lambda: generator(latent), groups, loss_of, watched=(latent,), **how)
    if latents is not None:
        latents.append(kept)
    return images


def descend(draw, groups, loss_of, *, steps: int, precision: str, device, after=None, rates: str = "lr_g", watched=()):
    """``steps`` Adam steps on parameter groups; returns the images of the step with the least loss, and what the ``watched``
    parameters were in it, detached.

    draw() -> images (N,C,H,W) of the parameters. loss_of(images) -> scalar. after(step): called with gradients in place.
    rates: the fields that a loss that is no number is to be corrected by.
    """
    adam = torch.optim.Adam(groups, betas=(0.5, 0.999), fused=True)
    best = []
    least = torch.full((), float("inf"), device=device)
    for step in range(steps):
        with autocast(device, precision):
            images = draw()
        loss = loss_of(images)
        better = loss.detach() < least
        # Chosen on the device: a Python condition would wait for it each step.
        seen = [tensor.detach() for tensor in (images, *watched)]
        best = [torch.where(better, now, old) for now, old in zip(seen, best)] if best else [tensor.clone() for tensor in seen]
        least = torch.minimum(least, loss.detach())
        adam.zero_grad()
        loss.backward()
        if after:
            after(step)
        adam.step()
        next_step()
    require_finite(least.item(), "inversion", f"lower {rates}")
    return best


class MetaInverter:
    """A generator that is kept from round to round: each batch starts from a copy of it, and the gradients of the copy,
    summed over the steps, move it (first-order MAML; Fast, arXiv 2112.06253)."""

    def __init__(self, config, generator):
        self.config, self.generator = config, generator
        self.copied = compiled(copy.deepcopy(generator))
        self.latent = None  # of the last batch, as its images were made
        # The public code takes lr_g * steps for the meta update, since it sums the gradients of all steps.
        lr = config.lr_g * config.steps
        self.optimizer = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.5, 0.999), fused=True)

    def reset_first_layers(self, rng):
        """Reinitialise the dense layer and the first BatchNorm, so that later images are unlike the earlier ones. N(0, 0.02) for
        the weights of both and 0 for their biases, as in the public code."""
        for layer in (self.generator.dense, self.generator.norm):
            torch.nn.init.normal_(layer.weight, 0.0, 0.02, generator=rng)
            torch.nn.init.zeros_(layer.bias)

    def invert(self, loss_of, index: int, rng):
        """The batch (B,C,H,W) of round ``index``, detached, by ``steps`` steps of a copy of the generator down
        ``loss_of(images)``; then a meta step."""
        config = self.config
        if config.reset and index == config.warmup + round(config.reset * (config.rounds - config.warmup)) - 1:
            self.reset_first_layers(rng)
        copied = renewed(self.copied, self.generator)
        latent, _ = copied.draw(config.batch, rng)
        sums = [torch.zeros_like(parameter) for parameter in copied.parameters()]

        def add_gradients(step):
            for summed, parameter in zip(sums, copied.parameters()):
                summed += parameter.grad

        latents = []
        images = refine(
            copied, latent, loss_of, latents=latents,
            steps=config.steps, lr_g=config.lr_g, lr_z=config.lr_z, precision=config.precision, after=add_gradients,
        )  # fmt: skip
        (self.latent,) = latents
        for parameter, summed in zip(self.generator.parameters(), sums):
            parameter.grad = summed
        self.optimizer.step()
        for buffer, of_copy in zip(self.generator.buffers(), copied.buffers()):
            buffer.copy_(of_copy)
        return images

    def state(self) -> dict:
        """The generator and its moments."""
        return checkpoint.state_of(self.generator, self.optimizer)

    def restore(self, state: dict):
        """Go on from ``state``."""
        checkpoint.restore(self.generator, self.optimizer, state)
