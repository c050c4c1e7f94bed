"""A frozen network in its fast form, for passes that no hook looks into: the teacher of a student's steps."""

import copy

import torch
from torch.fx.experimental.optimization import fuse

from ..runtime.device import autocast, compiled, compiles, kept
from ..runtime.errors import let_through
from . import fused_convolutions, plain_layers
from .cast import cast
from .classifier import Classifier
from .precision import no_longer_float32

ROUNDING = 1e-2  # of the largest logit; folding changes them by some 1e-6


def fast_copy(network: Classifier, precision: str) -> Classifier:
    """A copy of a frozen classifier in eval mode: BatchNorm folded into the convolution before it where nothing else reads
    that one's output, on a CPU with the sum and the activation behind it in one pass, and the weights cast once where
    ``precision`` is 'bf16'. Logits differ by rounding alone.

    For passes inside ``autocast(device, precision)``, as those of ``cast``. Without a gradient to the images, too: bf16 is slow
    in that of some layers (``precision``). A classifier takes images of its own size alone.
    """
    classifier = _folded(network) or _copy(network)
    no_longer_float32(classifier)
    return compiled(cast(classifier, network.mean.device, precision))


def _copy(network: Classifier) -> Classifier:
    return Classifier(copy.deepcopy(network.net), network.description).to(network.mean.device)


def _folded(network: Classifier) -> Classifier | None:
    """A copy with its BatchNorm layers folded; None where that cannot be, or where it answers otherwise than the network."""
    classifier = _copy(network)
    # A network whose forward pass depends on its input cannot be traced; a library's may raise anything then.
    try:
        if not classifier.description.dense:
            plain_layers.put_in(classifier)
        classifier.net = fuse(classifier.net, inplace=True)
        if network.mean.device.type == "cpu" and not compiles():  # a compiler fuses by itself, and cannot look into these
            classifier.net = fused_convolutions.fuse(classifier.net)
        # Of a layer that is used twice only one use can be folded; whatever else tracing misses shows here too.
        return classifier if _alike(classifier, network) else None
    except Exception as error:
        let_through(error)
        return None


def _alike(classifier: Classifier, network: Classifier) -> bool:
    """Whether two networks give the same logits, but for rounding, for two images of noise."""
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, *network.description.image_shape, generator=rng).to(network.mean.device)
    with torch.no_grad():
        logits, folded = network(images), classifier(images)
    return torch.allclose(folded, logits, rtol=0, atol=ROUNDING * logits.abs().max().item(), equal_nan=True)


def logits(network: Classifier, images, precision: str):
    """The logits (N,K), in float32, of images (N,C,H,W) in [0,1], without a gradient."""
    with torch.no_grad(), autocast(images.device, precision):
        return kept(network(images).float())
