"""A network of a library or of the user's, tried before it is taken; each fault is one line."""

import itertools
from collections.abc import Callable

import torch
from torch import nn

from ..runtime.errors import UserError, let_through, one_line
from . import segmentation_library
from .classifier import Classifier


def require_fit(net: nn.Module, description, role: str) -> nn.Module:
    """The network, in eval mode, if it takes the images and gives finite logits, as many as there are classes, and twice the same
    ones for an image; else UserError.

    role: what the network is, for the message.
    """
    tensors = itertools.chain(net.named_parameters(), net.named_buffers())
    if deep := next((key for key, value in tensors if value.ndim == 5), None):  # torch raises for these in channels_last
        raise UserError(
            f"{role}: {description.name} has weights of five dimensions ({deep[:60]}), as convolutions of volumes have, which "
            "are not supported; choose another network"
        )
    logits = (segmentation_library.require_maps if description.dense else _require_logits)(net, description, role)
    if not torch.isfinite(logits).all():
        raise UserError(
            f"{role}: {description.name} returns logits that are not finite; its weights are damaged, fetch them again"
        )
    with torch.no_grad():
        first, second = (Classifier(net, description).eval()(torch.full((1, *description.image_shape), 0.5)) for _ in range(2))
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-5):
        raise UserError(
            f"{role}: {description.name} gives other logits when it sees an image again, in eval mode too; let it keep nothing "
            "between calls and draw nothing in eval mode"
        )
    return net


def _require_logits(net: nn.Module, description, role: str) -> torch.Tensor:
    """The logits (1,K) of a black image of the network, then in eval mode; UserError unless it takes the images and gives one
    logit for each class."""
    net.eval()
    shape = "x".join(map(str, description.image_shape))
    try:
        with torch.no_grad():
            logits = net(torch.zeros(1, *description.image_shape))
    except Exception as error:  # the network is not ours: libraries assert, index and raise what they like
        let_through(error)
        raise UserError(
            f"{role}: {description.name} does not accept images of {shape} ({one_line(error, 140)}); "
            "choose another network, or another image size in the data set"
        ) from None
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != 1:
        output = f"outputs of shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise UserError(
            f"{role}: {description.name} returns {output} for one image, not one logit per class, so it is not an "
            "image classifier; use a classifier (from a detector or a segmentation network, perhaps its backbone with a "
            "classification head), or a factory whose network returns the logits alone, of shape (N,K)"
        )
    if logits.shape[1] != description.num_classes:
        raise UserError(
            f"{role}: {description.name} returns {logits.shape[1]} logits, but the data set has {description.num_classes} "
            "classes; choose the data set it was trained on, or a card with keep"
        )
    return logits


def require_trainable(classifier):
    """Raise UserError where a network of the user's, which is used up, fails in training mode or has no weights to train: it may
    do there what it does not in eval mode, as with auxiliary outputs."""
    description = classifier.description
    images = torch.rand(2, *description.image_shape)
    try:
        outputs = classifier.train()(images)
        shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else f"a {type(outputs).__name__}"
        if isinstance(outputs, torch.Tensor) and outputs.requires_grad:
            outputs.sum().backward()
    except Exception as error:
        let_through(error)
        raise UserError(
            f"network: {description.name} fails in training mode ({type(error).__name__}: {one_line(error, 140)}); correct it"
        ) from None
    expected = (2, description.num_classes, *(images.shape[2:] if description.dense else ()))
    if shape != expected:
        raise UserError(
            f"network: {description.name} returns {shape} for two images in training mode, not the logits {expected}; "
            "return these alone"
        )
    if not outputs.requires_grad:
        raise UserError(f"network: {description.name} has no weights to train, or none that reach its logits; give it some")


def require_kept(classifier: Classifier, rebuilt: Callable[[], nn.Module], role: str):
    """Raise UserError where a network of the user's answers otherwise than one that is built anew with its weights, as a file has
    them: what buffers that are not stored, and plain attributes, have drawn or learnt is lost."""
    description = classifier.description
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.initial_seed() + 1)  # as in another process, which draws other numbers
        another, images = Classifier(rebuilt(), description), torch.rand(2, *description.image_shape)
    try:
        another.load_state_dict(classifier.state_dict())
    except (RuntimeError, ValueError) as error:
        let_through(error)
        raise UserError(
            f"{role}: {description.name} does not take its own weights when it is built again ({one_line(error, 140)}); let it "
            "have the same layers in each call"
        ) from None
    with torch.no_grad():
        first, second = (network.eval()(images) for network in (classifier, another))
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise UserError(
            f"{role}: {description.name} gives other logits when it is built again with its weights; keep what it draws or "
            "learns in parameters and buffers (register_buffer without persistent=False)"
        )
