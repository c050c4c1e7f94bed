"""Pixels of each sample by itself, optimised until its loss no longer falls."""

import torch


def optimize_per_sample(images, losses_of, *, steps: int, lr: float, check: int, tolerance: float):
    """Adam on pixels, kept in [0,1] by projection; returns the images, detached.

    images: (N,C,H,W) to start from, in [0,1]. losses_of(images, rows) -> one loss for each sample (len(rows)).
    Samples do not see each other (the teacher is in eval mode), so each stops by itself: where its mean loss over
    ``check`` steps is not ``tolerance`` below that of the ``check`` steps before, it leaves the batch. Means, since
    losses of random views are noisy. tolerance 0 = all ``steps`` for all.
    """
    result = images.clone()
    rows = torch.arange(len(images), device=images.device)
    if not len(images):
        return result
    pixels = images.clone(memory_format=torch.channels_last).requires_grad_()
    adam = torch.optim.Adam([pixels], lr=lr, fused=True)
    before = torch.full((len(images),), float("inf"), device=images.device)
    summed = 0
    for step in range(steps):
        if tolerance and step and step % check == 0:
            going = before - summed >= tolerance * check
            before = summed[going]
            summed = 0
            if not going.all():
                result[rows[~going]] = pixels.detach()[~going]
                if not going.any():
                    return result
                pixels, adam, rows = _keep(going, pixels, adam, rows, lr)
        losses = losses_of(pixels, rows)
        summed = summed + losses.detach()
        descend(adam, pixels, losses.sum())
    result[rows] = pixels.detach()
    return result


def descend(adam, pixels, loss):
    """A step of Adam on pixels down a loss, back into [0,1]."""
    # Not by torch.autograd.grad: what that returns may lie in memory in another order than the pixels, and on a CPU fused Adam
    # goes through both as they lie. This lays the gradient out like the pixels.
    pixels.grad = None
    loss.backward(inputs=[pixels])
    adam.step()
    with torch.no_grad():
        pixels.clamp_(0, 1)


def _keep(going, pixels, adam, rows, lr):
    """The batch and its Adam moments without the samples that are done."""
    moments = adam.state[pixels]
    kept = pixels.detach()[going].contiguous(memory_format=torch.channels_last).requires_grad_()
    fresh = torch.optim.Adam([kept], lr=lr, fused=True)
    fresh.state[kept] = {name: value[going].contiguous(memory_format=torch.channels_last) if value.ndim else value
                         for name, value in moments.items()}  # fmt: skip
    return kept, fresh, rows[going]
