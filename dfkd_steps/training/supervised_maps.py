"""Training a teacher of segmentation: its loss, and images (N,C,H,W) moved with their maps (N,H,W) uint8, 255 = void."""

import math

import torch
import torch.nn.functional as F

from ..models.tasks import VOID
from . import augment
from .predict import to_float


def cross_entropy(logits, maps, label_smoothing: float = 0.0):
    """Mean over all pixels but the void ones. Logits (N,K,H,W), maps (N,H,W) uint8 -> scalar, nats; 0 where all are void."""
    each = F.cross_entropy(logits, maps.long(), ignore_index=VOID, label_smoothing=label_smoothing, reduction="sum")
    return each / (maps != VOID).sum().clamp_min(1)


def augmented(config, images, maps, rng):
    """A random view of images and maps, both uint8 and both moved alike, as a ``groups.TrainTeacher`` says: zoom, shift, flip
    and cutout; what comes in from outside, and what is cut out, is void.

    -> images float in [0,1], maps.
    """
    # The map as one more channel, in which 0 is void: augmentation fills with 0, and moves all channels alike.
    joined = torch.cat([images, (maps + 1)[:, None]], 1)
    joined = augment.shift(joined, (config.crop, config.crop), rng)
    if config.flip:
        joined = augment.flip(joined, rng)
    joined = augment.cutout(joined, config.cutout, rng)
    images, maps = to_float(joined[:, :-1]), joined[:, -1] - 1
    return zoom(images, maps, config.zoom, rng) if config.zoom else (images, maps)


def zoom(images, maps, most: float, rng):
    """A window of each image, at a random place, enlarged by a factor that is uniform in its logarithm from 1 to 1 + ``most``;
    images (N,C,H,W) float bilinearly, maps by the nearest pixel."""
    drawn = torch.rand(3, len(images), generator=rng, device=images.device)
    scale = torch.exp(-drawn[0] * math.log1p(most))
    places = (2 * drawn[1:] - 1) * (1 - scale)
    none = torch.zeros_like(scale)
    theta = torch.stack([torch.stack([scale, none, places[0]], 1), torch.stack([none, scale, places[1]], 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    of_maps = F.grid_sample(maps[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)
    return moved, of_maps[:, 0].to(torch.uint8)
