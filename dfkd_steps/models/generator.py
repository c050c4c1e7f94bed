"""Generators: networks from noise (and a class) to images in [0,1]. The engine of most methods."""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

HEADS = ("sigmoid", "normal")
LARGEST = 1 << 16  # side, classes, latent, width: what a file may declare


@dataclass(frozen=True)
class GeneratorDescription:
    """What a generator is, beside its weights; raises ValueError where there is no such generator.

    ``classes``: the labels it draws from; () where it takes no class.

    ``head``: 'sigmoid', or 'normal' = batch-normalised without shift and scaled to the data's mean and std.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    latent: int
    width: int
    head: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[int, ...] = ()

    def __post_init__(self):
        sizes = (*self.image_shape, self.num_classes, self.latent, self.width)
        sound = len(self.image_shape) == 3 and all(isinstance(one, int) and 0 < one <= LARGEST for one in sizes)
        sound = sound and all(isinstance(one, int) and 0 <= one < self.num_classes for one in self.classes)
        sound = sound and all(isinstance(one, (int, float)) for one in (*self.mean, *self.std))
        if not sound or self.head not in HEADS or not len(self.mean) == len(self.std) == self.image_shape[0]:
            raise ValueError("it has no valid description of a generator")


class Generator(nn.Module):
    """dense -> BN, [nearest x2, conv3, BN, leaky ReLU] as often as the image needs, conv3 -> head
    (DAFL, CMI, LS-GDFD: the same network but for its size, its head and what it is fed).

    Latent vectors (N,latent) and, for a conditional generator, labels (N) -> images (N,C,H,W) in [0,1], fp32.
    Images of any size: up-sampling starts from a side of 4 to 8 and what is too much is cut off.
    """

    def __init__(self, description: GeneratorDescription):
        super().__init__()
        self.description = description
        channels, *sides = description.image_shape
        doublings = max(1, math.ceil(math.log2(max(sides) / 8)))
        self.start = tuple(math.ceil(side / 2**doublings) for side in sides)
        width = description.width
        entering = description.latent + (description.num_classes if description.classes else 0)
        self.dense = nn.Linear(entering, width * math.prod(self.start))
        self.norm = nn.BatchNorm2d(width)
        widths = [width] * doublings + [max(1, width // 2)]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out, eps=0.8), nn.LeakyReLU(0.2))
            for into, out in itertools.pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)
        self.head_norm = nn.BatchNorm2d(channels, affine=False) if description.head == "normal" else None
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(description.mean, dtype=torch.float32).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(description.std, dtype=torch.float32).view(shape), persistent=False)

    def forward(self, latent, labels=None):
        if self.description.classes:
            latent = torch.cat([latent, F.one_hot(labels, self.description.num_classes).to(latent.dtype)], 1)
        maps = self.dense(latent).view(len(latent), -1, *self.start).contiguous(memory_format=torch.channels_last)
        maps = self.norm(maps)
        for stage in self.stages:
            maps = stage(F.interpolate(maps, scale_factor=2.0))
        height, width = self.description.image_shape[1:]
        # In fp32 also where the rest is autocast: the losses look at these images through views.
        images = self.last(maps)[..., :height, :width].float().contiguous(memory_format=torch.channels_last)
        if self.head_norm is None:
            return torch.sigmoid(images)
        images = self.head_norm(torch.tanh(images)) * self.std + self.mean
        return images + (images.clamp(0, 1) - images).detach()  # clipped, with the gradient of what is not

    def draw(self, number: int, rng):
        """Latent vectors (number, latent) and labels (number), or None where it takes no class."""
        device = self.mean.device
        latent = torch.randn(number, self.description.latent, generator=rng, device=device)
        if not self.description.classes:
            return latent, None
        classes = torch.tensor(self.description.classes, device=device)
        return latent, classes[torch.randint(0, len(classes), (number,), generator=rng, device=device)]

    def sample(self, number: int, rng):
        """``number`` images in eval mode and without gradient, and their labels."""
        latent, labels = self.draw(number, rng)
        with torch.no_grad():
            return self(latent, labels), labels


def build_generator(like, *, latent: int, width: int, head: str = "sigmoid", classes=(), seed: int) -> Generator:
    """A freshly initialised generator for images like those of a network's ``Description``; weights from ``seed``."""
    description = GeneratorDescription(
        tuple(like.image_shape), like.num_classes, latent, width, head, tuple(like.mean), tuple(like.std), tuple(classes)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(description)
