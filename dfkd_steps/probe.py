"""Looking into a network: its classifier, its features, its BatchNorm inputs, its size. Hooks never outlive the call."""

import contextlib

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .errors import UserError


@contextlib.contextmanager
def hooked(modules, hook):
    """``hook(module, inputs, output)`` on each module's forward pass, inside the block only."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _blank(net, image_shape):
    """One black image (1,C,H,W) where the network is."""
    return torch.zeros(1, *image_shape, device=next(net.parameters()).device)


def last_linear(net: nn.Module, image_shape) -> nn.Linear:
    """The linear layer whose output is the logits; raises UserError where the classifier is none.

    Found by running a blank image, since the order of definition does not tell the order of use.
    """
    seen = []
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    with hooked(linear, lambda module, inputs, output: seen.append((module, output))), torch.no_grad():
        logits = net(_blank(net, image_shape))
    if not seen or seen[-1][1] is not logits:
        raise UserError(f"{type(net).__name__}: its logits do not come from a linear layer, which this method needs; use another teacher")
    return seen[-1][0]


@contextlib.contextmanager
def penultimate(net: nn.Module, image_shape):
    """Yields a list that holds, after each forward pass, the input (N,D) of the last linear layer."""
    features = []

    def keep(module, inputs, output):
        features[:] = [inputs[0]]

    with hooked([last_linear(net, image_shape)], keep):
        yield features


@contextlib.contextmanager
def batchnorm_inputs(net: nn.Module):
    """Yields a list of (BatchNorm layer, its input), appended in each forward pass; clear it between passes."""
    seen = []
    layers = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    with hooked(layers, lambda module, inputs, output: seen.append((module, inputs[0]))):
        yield seen


def parameters(net: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(parameter.numel() for parameter in net.parameters())


def macs(net: nn.Module, image_shape) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image (C,H,W)."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(_blank(net, image_shape))
    return counter.get_total_flops() // 2
