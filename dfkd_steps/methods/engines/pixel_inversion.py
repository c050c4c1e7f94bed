"""Images by gradient descent on the pixels of a batch (DeepInversion, ADI; arXiv 1912.08795)."""

import torch
import torch.nn.functional as F

from ...runtime.device import next_step
from ...runtime.errors import UserError, let_through, one_line
from ...training import views
from .pixel_optimization import descend
from .schedules import rate


def invert(config, teacher, number: int, loss_of, betas, rng):
    """``number`` images (N,C,H,W), detached: normal noise (in the teacher's scale) moved down ``loss_of(augmented images)``.

    The first ``coarse`` steps, of a config that has them, look at images of half the height and width, as means of 2x2 pixels.
    betas: of Adam.
    """
    noise = torch.randn(number, *teacher.description.image_shape, generator=rng, device=teacher.mean.device)
    start = (noise * teacher.std + teacher.mean).clamp(0, 1)

    def loss_of_view(images):
        return loss_of(views.view(config.view, images, rng))

    settings = {"lr": config.lr, "schedule": config.schedule, "warmup": getattr(config, "lr_warmup", 0), "betas": betas}
    if coarse := getattr(config, "coarse", 0):
        start = optimize_batch(start, lambda images: loss_of_view(F.avg_pool2d(images, 2)), steps=coarse, **settings)
    return optimize_batch(start, loss_of_view, steps=config.steps, **settings)


def require_coarse(config, teacher):
    """Raise UserError unless a teacher takes images of half the height and width, where a config has coarse steps."""
    channels, height, width = teacher.description.image_shape
    if not config.coarse:
        return
    try:
        with torch.no_grad():
            teacher(torch.zeros(1, channels, height // 2, width // 2, device=teacher.mean.device))
    except Exception as error:
        let_through(error)
        why = f"the teacher takes no images of {height // 2}x{width // 2} ({one_line(error)})"
        raise UserError(f"transfer: coarse: {config.coarse}: {why}; set coarse: 0") from None


def optimize_batch(images, loss_of, *, steps: int, lr: float, schedule: str, betas, warmup: int = 0):
    """Adam on a batch of pixels that see each other (batch statistics), kept in [0,1]; detached.

    images: (N,C,H,W) in [0,1]. loss_of(images) -> scalar. warmup: steps at the start over which the learning rate rises.
    """
    pixels = images.clone(memory_format=torch.channels_last).requires_grad_()
    adam = torch.optim.Adam([pixels], lr=lr, betas=betas, fused=True)
    for step in range(steps):
        rising = step < warmup
        share = (step + 1) / warmup if rising else (step - warmup) / (steps - warmup)
        adam.param_groups[0]["lr"] = lr * share if rising else rate(schedule, lr, share)
        descend(adam, pixels, loss_of(pixels))
        next_step()
    return pixels.detach()
