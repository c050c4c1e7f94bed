"""The weights of a frozen network cast once, for passes in bf16 that hooks look into or that reach the images."""

import copy

import torch
from torch import nn

from ..runtime.device import has_bf16
from .classifier import Classifier
from .precision import is_float32


def cast_copy(network: Classifier, precision: str) -> Classifier:
    """A copy of a frozen classifier with its convolutions and linear layers in bf16 where ``precision`` is 'bf16', else itself.

    For passes inside ``autocast(device, precision)``, which else casts every weight of a frozen network on each pass: it keeps
    casts of weights that take a gradient only.
    """
    device = network.mean.device
    if precision != "bf16" or not has_bf16(device.type):
        return network
    return cast(Classifier(copy.deepcopy(network.net), network.description), device, precision)


def cast(classifier: Classifier, device, precision: str) -> Classifier:
    """The classifier itself on a device, its weights cast, frozen."""
    if precision == "bf16" and has_bf16(device.type):
        for module in classifier.net.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and not is_float32(module):
                module.to(torch.bfloat16)
    return classifier.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
