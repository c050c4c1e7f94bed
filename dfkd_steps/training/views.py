"""The named augmentations of a batch (``VIEWS``) and the ways to mix its images (``MIXES``), composed of ``augment``."""

import torch

from ..runtime.errors import UserError, suggest
from .augment import (
    affine,
    crop,
    cutmix,
    draw_flip,
    draw_part,
    draw_shift,
    flip,
    mixup,
    noise,
    random_threshold,
    random_window_mask,
    resized_crop,
    salt_and_pepper,
    shift,
    show_part,
)

WINDOW = (0.08, 1.0)  # the share of an image that is cut out in training on ImageNet
MIXES = {"none": lambda images, rng: images, "mixup": mixup, "cutmix": cutmix}


def mix(name: str, images, rng):
    """Images (N,C,H,W) mixed in pairs, by name; UserError where there is none."""
    return _named("mix", MIXES, name)(images, rng)


def _flip_crop(images, rng):
    return repeat("flip-crop", images, draw("flip-crop", images, rng))


def roll(images, rng, most: tuple[int, int], least: tuple[int, int] | None = None):
    """All images moved by one random number of pixels along each axis (rows, columns), from ``least`` (as far the other way) to
    ``most`` up and to the left; what leaves comes in on the other side."""
    rolled = images.permute(0, 2, 3, 1)  # what is selected lies in memory in this order, in which networks are fastest
    for axis, high in zip((1, 2), most, strict=True):
        low, side = -high if least is None else least[axis - 1], rolled.shape[axis]
        offset = torch.randint(low, high + 1, (), generator=rng, device=images.device)
        # By an index and not by torch.roll, which would wait for a GPU to say the offset.
        rolled = rolled.index_select(axis, (torch.arange(side, device=images.device) + offset) % side)
    return rolled.permute(0, 3, 1, 2)


def _roll_flip(images, rng):
    """The view of ADI in CMI's comparison: rolled by up to an eighth of each side, and all images mirrored or none."""
    return _mirrored(roll(images, rng, (images.shape[-2] // 8, images.shape[-1] // 8)), rng)


def _mirrored(images, rng):
    """All images, or none."""
    mirrored = torch.rand((), generator=rng, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def _jitter(images, rng):
    """The view of DeepInversion's ImageNet script: rolled by up to 30 of 224 pixels, and all images mirrored or none."""
    return _mirrored(roll(images, rng, (images.shape[-2] * 30 // 224, images.shape[-1] * 30 // 224)), rng)


def _sre2l(images, rng):
    """What SRe2L's public code shows the teacher in each step of an inversion (arXiv 2306.13092; recover/data_synthesis.py of
    VILA-Lab/SRe2L): one part for all images, 8 % or more of their area, mirrored or not, then rolled by up to a seventh."""
    seen = resized_crop(images, rng, area=WINDOW, together=True)
    return roll(seen, rng, (0, 0), least=(-(images.shape[-2] // 7), -(images.shape[-1] // 7)))


def _mild(images, rng):
    images = affine(images, rng, degrees=15, scale=(0.9, 1.1), move=0.08)
    return noise(images, rng, std=0.05)


def _zskd(images, rng):
    """The strong augmentation of ZSKD's public code: shift, rotation, scale, flips, salt and pepper, noise."""
    images = affine(images, rng, degrees=90, scale=(0.6, 0.9), move=0.2, share=0.5)
    images = flip(flip(images, rng, 3), rng, 2)
    images = salt_and_pepper(images, rng, density=0.05)
    return noise(images, rng, std=0.1)


def _strong(images, rng):
    return random_window_mask(_zskd(images, rng), rng, least=0.25)


def _shapes(images, rng):
    """Thresholded blobs, half of the images mixed in pairs, parts of them on black; the best for students of synthetic images
    (docs/results/)."""
    images = mixup(images, rng, share=0.5)
    images = affine(images, rng, degrees=30, scale=(0.6, 1.1), move=0.15)
    images = noise(salt_and_pepper(images, rng, density=0.05), rng, std=0.1)
    return random_window_mask(random_threshold(images, rng), rng, least=0.25)


VIEWS = {
    "none": lambda images, rng: images,
    "shift": lambda images, rng: shift(images, _most(images), rng),
    "flip-crop": _flip_crop,
    "roll": lambda images, rng: roll(images, rng, (2, 2)),  # DeepInversion's CIFAR-10 script
    "roll-flip": _roll_flip,
    "jitter": _jitter,
    "resized-crop": lambda images, rng: resized_crop(images, rng, area=WINDOW),
    "sre2l": _sre2l,
    "mild": _mild,
    "zskd": _zskd,
    "strong": _strong,
    "shapes": _shapes,
}


def view(name: str, images, rng):
    """A random augmentation of float images (N,C,H,W) in [0,1], by name; UserError where there is none."""
    return _named("view", VIEWS, name)(images, rng)


def _named(what: str, table: dict, name: str):
    if name not in table:
        raise UserError(f"{what}: {name!r} is unknown; {suggest(name, list(table))}")
    return table[name]


def draw(name: str, images, rng):
    """What a random view of each image (N,C,H,W) consists of, by a name in ``schemas.choices.REPEATABLE``: rows of numbers
    ``described`` so, (N,...)."""
    if name == "resized-crop":
        return draw_part(len(images), rng, area=WINDOW)
    numbers, kind = described(name)
    parameters = torch.zeros(len(images), numbers, dtype=kind, device=images.device)
    if name != "none":
        parameters[:, :2] = draw_shift(len(images), _most(images), rng).T
    if name == "flip-crop":
        parameters[:, 2] = draw_flip(len(images), rng)
    return parameters


def described(name: str) -> tuple[int, torch.dtype]:
    """How many numbers describe a view of an image, and of what kind: two offsets and whether it is mirrored, or a part."""
    return (5, torch.float32) if name == "resized-crop" else (3, torch.uint8)


def repeat(name: str, images, parameters):
    """The views of images (N,C,H,W) that ``draw`` described. -> (N,C,H,W)."""
    if name == "none":
        return images
    if name == "resized-crop":
        return show_part(images, parameters)
    return crop(images, parameters[:, :2].T.long(), _most(images), parameters[:, 2] > 0)


def _most(images) -> tuple[int, int]:
    """Pixels that a view is shifted by at most, down and across: an eighth of the side, no more than what uint8 offsets hold."""
    return min(images.shape[-2] // 8, 127), min(images.shape[-1] // 8, 127)
