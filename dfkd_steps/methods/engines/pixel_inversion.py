"""Images by gradient descent on the pixels of a batch (DeepInversion, ADI; arXiv 1912.08795)."""

import torch

from ...runtime.device import next_step
from ...training import views
from .schedules import rate


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
        next_step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach()
