"""Layers of timm as torch's own that give the same, so that a frozen network can be traced and its BatchNorm folded."""

import torch
import torch.nn.functional as F
from torch import nn

from . import hooks
from .classifier import Classifier


def put_in(classifier: Classifier):
    """Replace the layers in place; the network then takes images of its own size alone."""
    sizes = _sizes(classifier)
    for parent in list(classifier.net.modules()):
        for name, layer in list(parent.named_children()):
            if _is_norm_with_activation(layer):
                setattr(parent, name, _parted(layer))
            elif _is_same(layer) and len(sizes.get(layer, ())) == 1:
                setattr(parent, name, _padded(layer, *sizes[layer]))


def _is_norm_with_activation(layer) -> bool:
    return isinstance(layer, nn.BatchNorm2d) and type(layer).__name__ == "BatchNormAct2d" and isinstance(layer.drop, nn.Identity)


def _parted(layer) -> nn.Module:
    """timm's BatchNorm and activation in one, as two layers."""
    norm = nn.BatchNorm2d(layer.num_features, layer.eps, affine=False)
    norm.weight, norm.bias, norm.running_mean, norm.running_var = layer.weight, layer.bias, layer.running_mean, layer.running_var
    return (norm if isinstance(layer.act, nn.Identity) else nn.Sequential(norm, layer.act)).train(layer.training)


def _is_same(layer) -> bool:
    return isinstance(layer, nn.Conv2d) and type(layer).__name__ == "Conv2dSame"


def _sizes(classifier: Classifier) -> dict[nn.Module, set]:
    """Heights and widths that each convolution with TensorFlow's padding gets."""
    sizes, layers = {}, list(filter(_is_same, classifier.modules()))
    if not layers:
        return sizes

    def keep(layer, inputs):
        sizes.setdefault(layer, set()).add(tuple(inputs[0].shape[2:]))

    with hooks.hooked(layers, keep, before=True), torch.no_grad():
        classifier(torch.zeros(1, *classifier.description.image_shape, device=classifier.mean.device))
    return sizes


def _padded(layer: nn.Conv2d, size) -> nn.Conv2d:
    """TensorFlow pads more at the end than at the start, here by zeros at the start of the kernel: nothing is copied."""
    start, end = [], []
    for side, kernel, stride, dilation in zip(size, layer.kernel_size, layer.stride, layer.dilation):
        whole = max((-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
        start.append(whole // 2)
        end.append(whole - whole // 2)
    more = [last - first for first, last in zip(start, end)]
    if any(more) and max(layer.dilation) > 1:
        return layer
    weight = F.pad(layer.weight, (more[1], 0, more[0], 0))
    padded = nn.Conv2d(
        layer.in_channels, layer.out_channels, tuple(weight.shape[2:]), layer.stride, tuple(end), layer.dilation, layer.groups,
        bias=layer.bias is not None, device=weight.device,
    )  # fmt: skip
    padded.weight = nn.Parameter(weight.detach(), requires_grad=False)
    padded.bias = layer.bias
    return padded.train(layer.training)
