"""Noise images: uniform, Gaussian, smooth."""

import torch
import torch.nn.functional as F


def uniform(number, like, rng):
    """Each value uniform in [0,1], for a network's ``Description``. -> (number, C, H, W)."""
    return torch.rand(number, *like.image_shape, generator=rng)


def gaussian(number, like, rng):
    """N(mean, std) per channel, clipped to [0,1]: white in the teacher's normalised space. -> (number, C, H, W)."""
    drawn = torch.randn(number, *like.image_shape, generator=rng)
    return (drawn * torch.tensor(like.std).view(-1, 1, 1) + torch.tensor(like.mean).view(-1, 1, 1)).clamp(0, 1)


def smooth(number, like, rng):
    """Sum over scales of coarse random grids, bicubically enlarged; each image stretched to [0,1].
    -> (number, C, H, W)."""
    channels, height, width = like.image_shape
    total = torch.zeros(number, channels, height, width)
    for cells in (2, 4, 8):
        grid = torch.randn(number, channels, cells, cells, generator=rng)
        weight = torch.rand(number, 1, 1, 1, generator=rng)
        total += weight * F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
    low, high = total.amin((1, 2, 3), keepdim=True), total.amax((1, 2, 3), keepdim=True)
    return (total - low) / (high - low).clamp_min(1e-6)
