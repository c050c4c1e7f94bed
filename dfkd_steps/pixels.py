"""Optimising pixels: batches of images moved until the teacher gives them what is wanted."""

import torch


def optimise(teacher, images, losses_of, *, steps: int, lr: float, check: int, tolerance: float, precision: str):
    """Adam on pixels, kept in [0,1] by projection; returns the images, detached.

    images: (N,C,H,W) to start from, in [0,1]. losses_of(logits, rows) -> one loss for each sample (len(rows));
    samples do not see each other (the teacher is in eval mode), so each stops by itself: where its loss has fallen by
    less than ``tolerance`` over the last ``check`` steps, it leaves the batch. tolerance 0 = all ``steps`` for all.
    """
    result, rows = images.clone(), torch.arange(len(images), device=images.device)
    pixels = images.clone(memory_format=torch.channels_last).requires_grad_()
    adam = torch.optim.Adam([pixels], lr=lr, fused=True)
    before = torch.full((len(images),), float("inf"), device=images.device)
    for step in range(steps):
        losses = _losses(teacher, pixels, losses_of, rows, precision)
        if tolerance and step % check == 0:
            going = (before - losses.detach()) >= tolerance
            if not going.all():
                result[rows[~going]] = pixels.detach()[~going]
                if not going.any():
                    return result
                pixels, adam, rows, losses = _keep(going, pixels, adam, rows, losses_of, teacher, precision, lr)
            before = losses.detach()
        pixels.grad = torch.autograd.grad(losses.sum(), pixels)[0]
        adam.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    result[rows] = pixels.detach()
    return result


def _losses(teacher, pixels, losses_of, rows, precision):
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = teacher(pixels)
    return losses_of(logits.float(), rows)


def _keep(going, pixels, adam, rows, losses_of, teacher, precision, lr):
    """The batch and its Adam moments without the samples that are done."""
    moments = adam.state[pixels]
    kept = pixels.detach()[going].contiguous(memory_format=torch.channels_last).requires_grad_()
    fresh = torch.optim.Adam([kept], lr=lr, fused=True)
    fresh.state[kept] = {name: value[going].contiguous(memory_format=torch.channels_last) if value.ndim else value
                         for name, value in moments.items()}  # fmt: skip
    rows = rows[going]
    return kept, fresh, rows, _losses(teacher, kept, losses_of, rows, precision)
