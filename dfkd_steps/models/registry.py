"""The architectures: an explicit table of name -> module and the arguments of its ``build``.

Each module has ``build(num_classes: int, image_shape: tuple[int, int, int], **arguments) -> nn.Module`` that maps normalised
images (N,C,H,W) to logits (N,num_classes), those of ``SEGMENTATION_MODULES`` to maps (N,num_classes,H,W), and raises UserError
for a shape it cannot take.
"""

import json

from . import tasks

SEGMENTATION_MODULES = ("unet",)

REGISTRY = {
    "lenet5": ("lenet", {"width": 1.0}),
    "lenet5-half": ("lenet", {"width": 0.5}),
    "lenet5-conv": ("lenet", {"width": 1.0, "form": "conv"}),
    "lenet5-conv-half": ("lenet", {"width": 0.5, "form": "conv"}),
    "alexnet": ("alexnet", {"width": 1.0}),
    "alexnet-half": ("alexnet", {"width": 0.5}),
    "vgg11": ("vgg", {"depth": 11}),
    "vgg19": ("vgg", {"depth": 19}),
    "resnet8": ("resnet_cifar", {"depth": 8, "option": "A"}),
    "resnet20": ("resnet_cifar", {"depth": 20, "option": "A"}),
    "resnet32": ("resnet_cifar", {"depth": 32, "option": "A"}),
    "resnet56": ("resnet_cifar", {"depth": 56, "option": "A"}),
    "resnet8-b": ("resnet_cifar", {"depth": 8, "option": "B"}),
    "resnet20-b": ("resnet_cifar", {"depth": 20, "option": "B"}),
    "resnet32-b": ("resnet_cifar", {"depth": 32, "option": "B"}),
    "resnet56-b": ("resnet_cifar", {"depth": 56, "option": "B"}),
    "resnet18": ("resnet_wide", {"depth": 18}),
    "resnet34": ("resnet_wide", {"depth": 34}),
    "unet": ("unet", {"width": 32}),
    "unet-small": ("unet", {"width": 16}),
    "unet-tiny": ("unet", {"width": 8}),
    "vit-mini": ("vit", {"depth": 6, "width": 96, "heads": 3, "patch": 4}),
    "wrn16-1": ("wrn", {"depth": 16, "widen": 1}),
    "wrn16-2": ("wrn", {"depth": 16, "widen": 2}),
    "wrn40-1": ("wrn", {"depth": 40, "widen": 1}),
    "wrn40-2": ("wrn", {"depth": 40, "widen": 2}),
}


def names() -> list[str]:
    """All architectures, sorted."""
    return sorted(REGISTRY)


def task_of(arch: str) -> str:
    """The task that ``arch`` is for."""
    return tasks.SEGMENTATION if REGISTRY[arch][0] in SEGMENTATION_MODULES else tasks.CLASSIFICATION


def module_of(arch: str) -> str:
    """The module (below dfkd_steps) that builds ``arch``."""
    return f"models.{REGISTRY[arch][0]}"


def code_of(arch: str) -> tuple[str, str]:
    """The module that builds ``arch``, and the arguments that it is called with, as text."""
    return module_of(arch), json.dumps(REGISTRY[arch], sort_keys=True)
