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
            if _takes_weights_as_they_are(module) and not is_float32(module):
                module.to(torch.bfloat16)
    return classifier.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def _takes_weights_as_they_are(module) -> bool:
    """Is it a convolution or a linear layer that casts its weights and does nothing else to them first? Those that standardise
    or normalise them do so in float32, whose rounding in bf16 is as large as that of all the rest."""
    kind = type(module)
    as_is = kind.forward in (nn.Conv2d.forward, nn.Linear.forward) or kind.__name__ == "Conv2dSame"  # timm's, which pads
    return as_is and "weight" in module._parameters  # torch's parametrizations compute it from others
