"""An engine: pixels moved until the teacher gives what is wanted."""

from dataclasses import dataclass

import torch

from . import augment, training
from .fields import opt
from .methods import mixture
from .methods.base import Batch, Method, TransferConfig

STARTS = tuple(mixture.KINDS)  # noise and procedural images


@dataclass
class SoftConfig(TransferConfig):
    """The fields of methods that move pixels to soft targets."""

    tau: float = opt(20.0, "temperature of the teacher while pixels are optimised", above=0, hi=1000)
    start: str = opt("uniform", "what pixels start from: uniform (the paper), or other images of nothing", choices=STARTS)
    untouched: float = opt(
        0.0, "share of the samples that stay as they start; their target is what the teacher says", lo=0, hi=0.9
    )
    steps: int = opt(1500, "Adam steps at most", lo=1)
    lr: float = opt(0.05, "Adam step on pixels in [0,1]", above=0, hi=100)
    view: str = opt("none", "view that the teacher is asked on, drawn anew each step", choices=tuple(augment.VIEWS))
    window: int = opt(50, "steps between two looks at whether a sample has converged", lo=1)
    tolerance: float = opt(1e-3, "a sample stops where its mean loss over `window` steps fell by less, nats (0 = never)", lo=0)
    precision: str = opt("fp32", "bf16 = autocast", choices=("fp32", "bf16"))


class SoftTargets(Method):
    """Pixels from noise to soft targets, ``draw_targets``, down ``losses_of``. Batch i depends on (seed, i) alone."""

    has_targets = True

    def draw_targets(self, rows: range, seed: int):
        """Soft targets (len(rows),K) for samples with these numbers, on the device."""
        raise TypeError(f"{type(self).__name__} has no draw_targets()")

    def losses_of(self, images, targets):
        """One loss for each sample (N); images (N,C,H,W), targets (N,K)."""
        raise TypeError(f"{type(self).__name__} has no losses_of()")

    def batch(self, index: int) -> Batch:
        """Targets, images to start from, and the pixels that meet them; of some samples the start itself."""
        config, rows = self.config, self.rows(index)
        wanted = self.draw_targets(rows, self.seed_of(index, "targets"))
        generator = torch.Generator().manual_seed(self.seed_of(index, "pixels"))
        images = mixture.KINDS[config.start](len(rows), self.teacher.description, generator).to(self.device)
        moved = (torch.rand(len(rows), generator=generator) >= config.untouched).to(self.device)
        if not moved.all():
            with torch.no_grad():
                wanted[~moved] = torch.softmax(self.teacher(images[~moved]) / config.tau, 1)
        targets, views = wanted[moved], self.generator(index, "views")

        def losses_of(images, chosen):
            return self.losses_of(augment.view(config.view, images, views), targets[chosen])

        settings = {"steps": config.steps, "lr": config.lr, "check": config.window, "tolerance": config.tolerance}
        images[moved] = optimise(images[moved], losses_of, **settings)
        return Batch(images, wanted)


def optimise(images, losses_of, *, steps: int, lr: float, check: int, tolerance: float):
    """Adam on pixels, kept in [0,1] by projection; returns the images, detached.

    images: (N,C,H,W) to start from, in [0,1]. losses_of(images, rows) -> one loss for each sample (len(rows)).
    Samples do not see each other (the teacher is in eval mode), so each stops by itself: where its mean loss over
    ``check`` steps is not ``tolerance`` below that of the ``check`` steps before, it leaves the batch. Means, since
    losses of random views are noisy. tolerance 0 = all ``steps`` for all.
    """
    result, rows = images.clone(), torch.arange(len(images), device=images.device)
    if not len(images):
        return result
    pixels = images.clone(memory_format=torch.channels_last).requires_grad_()
    adam = torch.optim.Adam([pixels], lr=lr, fused=True)
    before, summed = torch.full((len(images),), float("inf"), device=images.device), 0
    for step in range(steps):
        if tolerance and step and step % check == 0:
            going = before - summed >= tolerance * check
            before, summed = summed[going], 0
            if not going.all():
                result[rows[~going]] = pixels.detach()[~going]
                if not going.any():
                    return result
                pixels, adam, rows = _keep(going, pixels, adam, rows, lr)
        losses = losses_of(pixels, rows)
        summed = summed + losses.detach()
        pixels.grad = torch.autograd.grad(losses.sum(), pixels)[0]
        adam.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    result[rows] = pixels.detach()
    return result


def _keep(going, pixels, adam, rows, lr):
    """The batch and its Adam moments without the samples that are done."""
    moments = adam.state[pixels]
    kept = pixels.detach()[going].contiguous(memory_format=torch.channels_last).requires_grad_()
    fresh = torch.optim.Adam([kept], lr=lr, fused=True)
    fresh.state[kept] = {name: value[going].contiguous(memory_format=torch.channels_last) if value.ndim else value
                         for name, value in moments.items()}  # fmt: skip
    return kept, fresh, rows[going]


def descend(images, loss_of, *, steps: int, lr: float):
    """Adam on a batch of pixels that see each other (batch statistics), half a cosine, kept in [0,1]; detached.

    images: (N,C,H,W) in [0,1]. loss_of(images) -> scalar.
    """
    pixels = images.clone(memory_format=torch.channels_last).requires_grad_()
    adam = torch.optim.Adam([pixels], lr=lr, betas=(0.5, 0.9), fused=True)
    for step in range(steps):
        adam.param_groups[0]["lr"] = training.half_cosine(lr, step / steps)
        pixels.grad = torch.autograd.grad(loss_of(pixels), pixels)[0]
        adam.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach()
