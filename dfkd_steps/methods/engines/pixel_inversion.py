"""Images by gradient descent on the pixels of a batch (DeepInversion, ADI; arXiv 1912.08795)."""

from dataclasses import dataclass

import torch

from ...schemas.fields import opt
from ...training import views
from . import objective
from .schedules import rate


@dataclass
class PixelOptions:
    """The fields that DeepInversion and its adaptive form share."""

    onehot: float = objective.weight("onehot", 1.0)
    bn: float = objective.weight("bn", 10.0)
    # Published: 2.5e-5 of the norm over a batch of 256 (16 times that by image), images in units of a std of 0.2, and with it
    # Adam steps of 0.05 in these units.
    tv: float = objective.weight("tv", 2e-3)
    l2: float = objective.weight("l2", 0.0)
    steps: int = opt(2000, "Adam steps on a batch of pixels", lo=1)
    lr: float = opt(0.01, "peak Adam step on pixels in [0,1] (0.05 in units of a std of 0.2)", above=0, hi=100)
    schedule: str = opt("constant", "of the step, over the steps of a batch", choices=("constant", "cosine"))


def invert(config, teacher, number: int, loss_of, betas, rng):
    """``number`` images (N,C,H,W), detached: normal noise (in the teacher's scale) moved down ``loss_of(augmented images)``.

    betas: of Adam.
    """
    noise = torch.randn(number, *teacher.description.image_shape, generator=rng, device=teacher.mean.device)
    start = (noise * teacher.std + teacher.mean).clamp(0, 1)

    def loss_of_view(images):
        return loss_of(views.view(config.view, images, rng))

    return optimize_batch(start, loss_of_view, steps=config.steps, lr=config.lr, schedule=config.schedule, betas=betas)


def optimize_batch(images, loss_of, *, steps: int, lr: float, schedule: str, betas):
    """Adam on a batch of pixels that see each other (batch statistics), kept in [0,1]; detached.

    images: (N,C,H,W) in [0,1]. loss_of(images) -> scalar.
    """
    pixels = images.clone(memory_format=torch.channels_last).requires_grad_()
    adam = torch.optim.Adam([pixels], lr=lr, betas=betas, fused=True)
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate(schedule, lr, step / steps)
        pixels.grad = torch.autograd.grad(loss_of(pixels), pixels)[0]
        adam.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach()
