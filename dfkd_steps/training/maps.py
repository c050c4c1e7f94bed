"""Label maps (N,H,W) uint8, 255 = void: predicted by a network, and moved with their images. Images (N,C,H,W)."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from ..models.tasks import VOID
from ..runtime import memory
from . import augment
from .predict import to_float


def predict(teacher, stored, device, rows: int = 0) -> np.ndarray:
    """The class of each pixel of stored images by a network; ``rows`` images at a time, or as many as memory allows. ->
    (N,H,W) uint8, numpy."""
    parts = torch.from_numpy(np.ascontiguousarray(stored)).split(rows or memory.passed(stored.shape[1:]))
    with torch.no_grad():
        classes = [teacher(to_float(part.to(device))).argmax(1).to(torch.uint8).cpu() for part in parts]
    return torch.cat(classes).numpy()


def confidence(teacher, stored, device) -> np.ndarray:
    """The teacher's largest probability, mean over the pixels of each stored image. -> (N)."""
    parts = torch.from_numpy(np.ascontiguousarray(stored)).split(memory.passed(stored.shape[1:]))
    with torch.no_grad():
        means = [teacher(to_float(part.to(device))).float().softmax(1).amax(1).mean((1, 2)).cpu() for part in parts]
    return torch.cat(means).numpy()


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
