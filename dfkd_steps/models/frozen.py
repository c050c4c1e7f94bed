"""A frozen network in its fast form, for passes that no hook looks into: the teacher of a student's steps."""

import contextlib
import copy

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from ..runtime.device import autocast, compiled, has_bf16
from . import fused_convolutions, hooks, plain_layers
from .classifier import Classifier
from .precision import is_float32, no_longer_float32
from .statistics import CURRENT


def fast_copy(network: Classifier, precision: str) -> Classifier:
    """A copy of a frozen classifier in eval mode: BatchNorm folded into the convolution before it where nothing else reads
    that one's output, on a CPU with the sum and the activation behind it in one pass, and the weights cast once where
    ``precision`` is 'bf16'. Logits differ by rounding alone.

    For passes inside ``autocast(device, precision)``, which else casts every weight of a frozen network on each pass: it
    keeps casts of weights that take a gradient only. Without a gradient to the images, too: bf16 is slow in that of some layers
    (``precision``). A classifier takes images of its own size alone.
    """
    classifier = Classifier(copy.deepcopy(network.net), network.description).to(network.mean.device)
    # A network that cannot be traced, as its forward pass depends on its input, keeps its BatchNorm layers; a library's may
    # raise anything then.
    with contextlib.suppress(Exception):
        if not classifier.description.dense:
            plain_layers.put_in(classifier)
        classifier.net = fuse(classifier.net, inplace=True)
        if network.mean.device.type == "cpu":
            classifier.net = fused_convolutions.fuse(classifier.net)
    no_longer_float32(classifier)
    return compiled(_cast(classifier, network.mean.device, precision))


def cast_copy(network: Classifier, precision: str) -> Classifier:
    """A frozen classifier as ``fast_copy`` makes it, but with all its layers, for passes that hooks look into; itself in fp32."""
    device = network.mean.device
    if precision != "bf16" or not has_bf16(device.type):
        return network
    return _cast(Classifier(copy.deepcopy(network.net), network.description), device, precision)


def _cast(classifier: Classifier, device, precision: str) -> Classifier:
    if precision == "bf16" and has_bf16(device.type):
        for module in classifier.net.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and not is_float32(module):
                module.to(torch.bfloat16)
    return classifier.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def with_current_statistics(network: Classifier) -> Classifier:
    """A copy of a frozen classifier whose BatchNorm layers normalise by the statistics of the batch itself, not by those of the
    training data: its answer to an image depends on the others. Raises UserError where it has no such layer."""
    classifier = copy.deepcopy(network)
    for layer in hooks.require_batchnorm(classifier.net):
        layer.running_mean = layer.running_var = None
        layer.track_running_stats = False
    return classifier.eval().requires_grad_(False)


def answering(network: Classifier, metadata: dict) -> Classifier:
    """The network that answers on the images of a transfer set, by the set's metadata: the teacher, or the teacher with current
    statistics."""
    return with_current_statistics(network) if metadata.get("teacher_statistics") == CURRENT else network


def logits(network: Classifier, images, precision: str):
    """The logits (N,K), in float32, of images (N,C,H,W) in [0,1], without a gradient."""
    with torch.no_grad(), autocast(images.device, precision):
        return network(images).float()
