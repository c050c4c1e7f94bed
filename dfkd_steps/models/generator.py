"""Generators: networks from noise (and a class) to images in [0,1]. The engine of most methods."""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .generator_architectures import ARCHITECTURES, Architecture

LARGEST = 1 << 16  # side, classes, latent, width: what a file may declare


@dataclass(frozen=True)
class GeneratorDescription:
    """What a generator is, beside its weights; raises ValueError where there is no such generator.

    ``arch``: a name in ``ARCHITECTURES``. ``classes``: the labels it draws from; () where it takes no class.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    latent: int
    width: int
    arch: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[int, ...] = ()

    def __post_init__(self):
        sizes = (*self.image_shape, self.num_classes, self.latent, self.width)
        sound = len(self.image_shape) == 3 and all(isinstance(size, int) and 0 < size <= LARGEST for size in sizes)
        sound = sound and all(isinstance(label, int) and 0 <= label < self.num_classes for label in self.classes)
        sound = sound and all(isinstance(value, (int, float)) for value in (*self.mean, *self.std))
        if not sound or self.arch not in ARCHITECTURES or not len(self.mean) == len(self.std) == self.image_shape[0]:
            raise ValueError("it does not have a valid description of a generator")


class Generator(nn.Module):
    """dense -> BN, [nearest x2, conv3, BN, leaky ReLU] as often as the image needs, conv3 -> head; all publications have this
    network but for its ``Architecture``, its size and what it is fed.

    Latent vectors (N,latent) and, for a conditional generator, labels (N) -> images (N,C,H,W) in [0,1], fp32.
    Images of any size: up-sampling starts from a side of 4 to 8 and what is too much is cut off.
    """

    def __init__(self, description: GeneratorDescription):
        super().__init__()
        self.description = description
        arch = ARCHITECTURES[description.arch]
        channels, *sides = description.image_shape
        doublings = max(1, math.ceil(math.log2(max(sides) / 8)))
        self.start = tuple(math.ceil(side / 2**doublings) for side in sides)
        width = description.width
        widths = [arch.first * width] + [width] * (doublings - 1) + [max(1, width // 2)]
        if arch.dcgan:
            widths = [max(arch.first * width >> place, width // 2, 1) for place in range(doublings + 1)]
        self.enlarges = not arch.dcgan
        entering = description.latent + (description.num_classes if description.classes else 0)
        self.dense = nn.Linear(entering, widths[0] * math.prod(self.start), bias=arch.dense_bias)
        self.norm = nn.BatchNorm2d(widths[0])
        self.first_activation = nn.LeakyReLU(0.2) if arch.rectify_first else nn.Identity()
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(arch, into, out), nn.BatchNorm2d(out, eps=arch.eps), nn.LeakyReLU(0.2))
            for into, out in itertools.pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)
        self.tanh = arch.head.startswith("tanh")
        self.head_norm = _head_norm(arch, channels)
        if arch.glorot:
            for layer in self.modules():
                if isinstance(layer, (nn.Linear, nn.Conv2d)):
                    nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(self.last.bias)
        if arch.dcgan:
            initialize_dcgan(self)
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(description.mean, dtype=torch.float32).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(description.std, dtype=torch.float32).view(shape), persistent=False)
        self.register_buffer("classes", torch.tensor(description.classes, dtype=torch.int64), persistent=False)

    def forward(self, latent, labels=None):
        return self.from_maps(self.maps(latent, 0, labels), 0)

    def maps(self, latent, level: int, labels=None):
        """The feature maps (N,C,H,W) after ``level`` of the stages, from 0 to as many as there are."""
        if self.description.classes:
            latent = torch.cat([latent, F.one_hot(labels, self.description.num_classes).to(latent.dtype)], 1)
        maps = self.dense(latent).view(len(latent), -1, *self.start).contiguous(memory_format=torch.channels_last)
        maps = self.first_activation(self.norm(maps))
        return self._staged(maps, self.stages[:level])

    def _staged(self, maps, stages):
        for stage in stages:
            maps = stage(F.interpolate(maps, scale_factor=2.0) if self.enlarges else maps)
        return maps

    def from_maps(self, maps, level: int):
        """The images (N,C,H,W) of feature maps as ``maps`` gives them."""
        maps = self._staged(maps, self.stages[level:])
        height, width = self.description.image_shape[1:]
        # In fp32 also where the rest is autocast: the losses look at these images through views.
        images = self.last(maps)[..., :height, :width].float().contiguous(memory_format=torch.channels_last)
        if self.head_norm is None:
            return (torch.tanh(images) + 1) / 2 if self.tanh else torch.sigmoid(images)
        images = self.head_norm(torch.tanh(images) if self.tanh else images) * self.std + self.mean
        return images + (images.clamp(0, 1) - images).detach()  # clipped, with the gradient of what is not

    def draw(self, number: int, rng):
        """Latent vectors (number, latent) and labels (number), or None where it takes no class."""
        device = self.mean.device
        latent = torch.randn(number, self.description.latent, generator=rng, device=device)
        if not self.description.classes:
            return latent, None
        return latent, self.classes[torch.randint(0, len(self.classes), (number,), generator=rng, device=device)]

    def sample(self, number: int, rng):
        """``number`` images in eval mode and without gradient, and their labels."""
        latent, labels = self.draw(number, rng)
        with torch.no_grad():
            return self(latent, labels), labels


def _convolution(arch: Architecture, into: int, out: int) -> nn.Module:
    if arch.dcgan:
        return nn.ConvTranspose2d(into, out, 4, 2, 1, bias=arch.conv_bias)
    return nn.Conv2d(into, out, 3, padding=1, bias=arch.conv_bias)


def _head_norm(arch: Architecture, channels: int):
    """The BatchNorm at the end of a generator; None where it has none."""
    if arch.head in ("sigmoid", "tanh"):
        return None
    if arch.head == "tanh-scale":
        norm = nn.BatchNorm2d(channels, eps=arch.eps)
        norm.bias.requires_grad_(False)  # 0 for ever: there is no shift
        return norm
    return nn.BatchNorm2d(channels, affine=arch.head == "norm")


def build_generator(like, *, latent: int, width: int, arch: str, classes=(), seed: int) -> Generator:
    """A freshly initialised generator for images like those of a network's ``Description``; weights from ``seed``."""
    description = GeneratorDescription(
        tuple(like.image_shape), like.num_classes, latent, width, arch, tuple(like.mean), tuple(like.std), tuple(classes)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(description)


def initialize_dcgan(net: nn.Module, rng=None):
    """Initialise a network as DCGAN does (arXiv 1511.06434, sec. 3) and CMI anew for each batch: weights N(0, 0.02), those of
    BatchNorm N(1, 0.02), biases 0. rng: a random generator on the network's device; None = PyTorch's own."""
    for layer in net.modules():
        norm = isinstance(layer, nn.BatchNorm2d)
        if norm or isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, float(norm), 0.02, generator=rng)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
