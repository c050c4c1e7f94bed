"""Classifiers, of images or of each of their pixels: a network with its description and its normalisation."""

import importlib
from dataclasses import dataclass, field

import torch
from torch import nn

from ..runtime.errors import UserError
from . import dense, names, registry, tasks
from .precision import keep_float32


@dataclass(frozen=True)
class Description:
    """What a network is, beside its weights. ``builder``: 'arch' | 'factory' | 'torchvision' | 'timm' | 'onnx'."""

    builder: str
    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    arguments: dict = field(default_factory=dict)
    task: str = tasks.CLASSIFICATION

    @property
    def dense(self) -> bool:
        """Does it classify each pixel?"""
        return self.task == tasks.SEGMENTATION

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def spelled(self) -> str:
        """The name by which a config names such a network."""
        return names.spelled(self.builder, self.name)


@dataclass(frozen=True)
class Whole:
    """What a network was before it was cut to some of its classes (``models.head``): how many it had (``count``), the number in
    it of each that is left (``keep``), the tensors that were cut, by name, with all classes, and the ``arguments`` of its
    description."""

    count: int
    keep: tuple[int, ...]
    tensors: dict[str, torch.Tensor]
    arguments: dict = field(default_factory=dict)


class Classifier(nn.Module):
    """A network that owns its normalisation: images (N,C,H,W) in [0,1] -> logits (N,K), for segmentation (N,K,H,W).

    Of a student also how many images it has learnt from, with repeats (``seen``, 0 = not known), and the weights of ``net`` as
    they were after fewer of them (``snapshots``: images -> state dict on the CPU); of a teacher that was cut to some of its
    classes what it was before (``whole``).
    """

    def __init__(self, net: nn.Module, description: Description):
        super().__init__()
        self.net, self.description = keep_float32(net), description
        self.seen: int = 0
        self.snapshots: dict[int, dict[str, torch.Tensor]] = {}
        self.whole: Whole | None = None
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(description.mean, dtype=torch.float32).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(description.std, dtype=torch.float32).view(shape), persistent=False)

    def forward(self, images):
        if not images.is_floating_point():  # 0 to 255 would be normalised as if they were 0 to 1
            raise UserError(f"images: have the type {images.dtype}; give floating-point values in [0, 1]: images.float() / 255")
        described, images = self.description, (images - self.mean) / self.std
        return dense.logits(self.net, images, dense.MULTIPLE.get(described.builder, 1)) if described.dense else self.net(images)


def build_network(description: Description) -> nn.Module:
    """A freshly initialised network of this description; raises UserError where it cannot be built."""
    if description.builder == "arch":
        if description.name not in registry.REGISTRY:
            known = ", ".join(registry.names())
            raise UserError(f"network {description.name[:40]!r}: no such architecture; known: {known}")
        if (task := registry.task_of(description.name)) != description.task:
            fitting = ", ".join(name for name in registry.names() if registry.task_of(name) == description.task)
            raise UserError(
                f"network {description.name}: is for {task}, but the task is {description.task}; use one of "
                f"{fitting}, or one from a library"
            )
        return build_architecture(description.name, description.num_classes, description.image_shape)
    # By name: they import torchvision, which takes six seconds, and what is built there has its code in the network's key.
    module = "onnx_graph" if description.builder == "onnx" else "library"
    return importlib.import_module(f"dfkd_steps.models.{module}").build(description)


def misfit_of(build, weights) -> str:
    """In what weights differ from those of the network that ``build()`` makes ('' = in nothing).

    It is made without memory: a file whose description is larger than its weights takes no more than its own size.
    """
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in build().state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    differ = sorted(name for name in {**shapes, **given} if shapes.get(name) != given.get(name))
    return f"{differ[0]} is {given.get(differ[0], 'missing')}, not {shapes.get(differ[0], 'there')}" if differ else ""


def new_classifier(name: str, like, seed: int) -> Classifier:
    """A freshly initialised network, named as ``names`` says, for the images and classes of ``like`` (a ``Description`` or a
    data set); weights from ``seed`` alone. Raises UserError where it does not take such images.
    """
    builder, model = names.split(name)
    description = Description(builder, model, like.classes, like.image_shape, like.mean, like.std, task=like.task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if builder == "arch":
            return Classifier(build_network(description), description)
        return importlib.import_module("dfkd_steps.models.library").new(description)


def build_architecture(arch: str, num_classes: int, image_shape):
    """A freshly initialised network of a registered architecture; images (N,C,H,W) -> logits (N,num_classes), or maps of them."""
    file, arguments = registry.REGISTRY[arch]
    module = importlib.import_module(f"dfkd_steps.models.{file}")
    return module.build(num_classes, tuple(image_shape), **arguments)
