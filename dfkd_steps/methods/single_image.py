"""Crops of one photograph as a transfer set: the augmented image prior (Asano and Saeed, ICLR 2023, arXiv 2112.00725)."""

import math
import os
from pathlib import Path

import torch
from torchvision.transforms.v2 import functional as T

from ..datasets import image_files
from ..datasets.cropping import middle
from ..runtime.errors import UserError
from ..schemas.transfer.single_image import SingleImageConfig
from .base import Batch, Method
from .engines.image_fit import fit

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
RATIO = (3 / 4, 4 / 3)  # of the sides of a crop
LARGER = math.sqrt(2)  # a crop is resized to so many times the image's sides, so that turning it by 45 degrees shows no corner
TRIES = 100  # a part of 90 % of the area fits in one of three tries, one of 99 % in one of thirty
STRENGTH, HUE = 0.4, 0.1  # of the changes of colour


class SingleImage(Method):
    """Batch i depends on (seed, i) alone; made on the CPU, so that images do not depend on the device."""

    Config = SingleImageConfig

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.paths = image_paths(config.images)

    def batch(self, index: int) -> Batch:
        """Crops, each of a random photograph."""
        number = len(self.rows(index))
        rng = torch.Generator().manual_seed(self.seed_of(index))
        chosen = torch.randint(0, len(self.paths), (number,), generator=rng)
        images = torch.empty(number, 3, *self.teacher.description.image_shape[1:])
        for photograph in chosen.unique():
            whole = upright(self.paths[photograph])
            for row in (chosen == photograph).nonzero()[:, 0]:
                images[row] = self.crop(whole, torch.Generator().manual_seed(self.seed_of(index, int(row))))
        return Batch(fit(images, self.teacher.description.image_shape))

    def crop(self, whole, rng):
        """A random crop (3,H,W) in [0,1] of a photograph (3,h,w) of bytes, of the form that the teacher takes."""
        config, size = self.config, self.teacher.description.image_shape[1:]
        window = [max(1, round(config.first_crop * side)) for side in middle(whole.shape[1:], size)]
        top, left = place(whole.shape[1:], window, rng)
        part = part_of(window, config.area, rng)
        down, across = place(window, part, rng)
        larger = [int(LARGER * side) for side in size]
        image = T.resized_crop(whole, top + down, left + across, *part, larger, T.InterpolationMode.BICUBIC, antialias=True)
        angle, shear = uniform(-config.degrees, config.degrees, rng), uniform(-config.shear, config.shear, rng)
        image = T.affine(image.float() / 255, angle, [0, 0], 1.0, [shear, 0.0], T.InterpolationMode.BILINEAR)
        image = T.center_crop(image, size)
        return jittered(image, rng) if uniform(0, 1, rng) < config.jitter else image

    def about(self) -> dict:
        """Says what it was made from: photographs, so not from the teacher alone."""
        whole = Path(self.config.images).name if len(self.paths) == 1 else f"{len(self.paths)} photographs"
        return {"label": f"crops of {whole}", "origin": "other"}


def image_paths(path: str) -> list[Path]:
    """The image files in a folder and below it, sorted, hidden ones left out; or the one file; raises UserError where there is
    none, or one that is no image by its head."""
    images = image_files.below(Path(path), SUFFIXES) if os.path.isdir(path) else [Path(path)]
    if not images:
        raise UserError(f"{path}: contains no images ({', '.join(SUFFIXES)}); put at least one there, or correct images")
    for image in images:  # now, by their heads: images that are removed later are missed by all that were made with them
        with image_files.opened(image):
            pass
    return images


def upright(path):
    """A photograph as bytes (3,H,W)."""
    from PIL import ImageOps

    with image_files.opened(path) as stored:
        return T.pil_to_tensor(ImageOps.exif_transpose(stored).convert("RGB"))


def uniform(low: float, high: float, rng) -> float:
    """A random number between two."""
    return low + (high - low) * torch.rand((), generator=rng).item()


def place(size, part, rng) -> list[int]:
    """Where the upper left corner of a part (h,w) of something larger (H,W) lies."""
    return [int(torch.randint(0, side - length + 1, (), generator=rng)) for side, length in zip(size, part)]


def part_of(window, area: float, rng) -> list[int]:
    """Height and width of a random part: a share of the window's area from ``area`` to 1, and a ratio of sides; drawn again until
    it fits, as in the public code, so that large parts have nearly the window's form."""
    for _ in range(TRIES):
        share, oblong = uniform(area, 1, rng), math.exp(uniform(*map(math.log, RATIO), rng))
        part = [max(1, round(window[0] * math.sqrt(share / oblong))), max(1, round(window[1] * math.sqrt(share * oblong)))]
        if part[0] <= window[0] and part[1] <= window[1]:
            return part
    return [max(1, int(side * math.sqrt(area))) for side in window]  # where hardly any ratio of so large an area fits


def jittered(image, rng):
    """Brightness, contrast, saturation and hue changed, in random order."""
    strengths = [uniform(1 - STRENGTH, 1 + STRENGTH, rng) for _ in range(3)]
    changes = [
        *zip((T.adjust_brightness, T.adjust_contrast, T.adjust_saturation), strengths),
        (T.adjust_hue, uniform(-HUE, HUE, rng)),
    ]
    for number in torch.randperm(len(changes), generator=rng):
        change, strength = changes[number]
        image = change(image, strength)
    return image
