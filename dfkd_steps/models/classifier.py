"""Classifiers: a network with its description and its normalisation."""

import importlib
from dataclasses import dataclass, field

import torch
from torch import nn

from ..runtime.errors import UserError
from .registry import REGISTRY, names


@dataclass(frozen=True)
class Description:
    """What a network is, beside its weights. ``builder``: 'arch' | 'factory' | 'torchvision' | 'timm'."""

    builder: str
    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    arguments: dict = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.classes)


class Classifier(nn.Module):
    """A network that owns its normalisation: images (N,C,H,W) in [0,1] -> logits (N,K)."""

    def __init__(self, net: nn.Module, description: Description):
        super().__init__()
        self.net, self.description = net, description
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(description.mean, dtype=torch.float32).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(description.std, dtype=torch.float32).view(shape), persistent=False)

    def forward(self, images):
        return self.net((images - self.mean) / self.std)


def build_network(description: Description) -> nn.Module:
    """A freshly initialised network of this description; raises UserError where it cannot be built."""
    if description.builder == "arch":
        if description.name not in REGISTRY:
            raise UserError(f"network {description.name[:40]!r}: no such architecture; known: {', '.join(names())}")
        return build_architecture(description.name, description.num_classes, description.image_shape)
    # By name: it imports torchvision, which takes six seconds, and what is built here has its code in the teacher's key.
    return importlib.import_module("dfkd_steps.models.library").build(description)


def new_classifier(arch: str, like: Description, seed: int) -> Classifier:
    """A freshly initialised network of ours for the images and classes of another; weights from ``seed`` alone."""
    description = Description("arch", arch, like.classes, like.image_shape, like.mean, like.std)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(build_network(description), description)


def build_architecture(arch: str, num_classes: int, image_shape):
    """A freshly initialised network of a registered architecture; images (N,C,H,W) -> logits (N,num_classes)."""
    file, arguments = REGISTRY[arch]
    module = importlib.import_module(f"dfkd_steps.models.{file}")
    return module.build(num_classes, tuple(image_shape), **arguments)
