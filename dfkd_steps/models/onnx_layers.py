"""Layers of torch for the nodes of an ONNX graph that hold weights."""

from collections.abc import Callable

import torch


class UnknownLayer(Exception):
    """A layer that no network of ours has; says what the file has, and the remedy."""


# What a node becomes: operator of ``onnx_graph``, its layer's sizes and options, and its weights. None where it is no layer: the
# node is then an operation like others.
Layer = tuple[str, dict, dict[str, torch.Tensor]]


def convolution(known, attributes) -> Layer:
    """Conv of images."""
    weight, bias = known[1], known[2] if len(known) > 2 else None
    if weight is None or weight.ndim != 4:
        raise UnknownLayer("has a convolution that is not of images, or whose weights are computed; export it in eval mode")
    group = attributes.get("group", 1)
    how = {name: attributes.get(plural, [1, 1]) for name, plural in (("stride", "strides"), ("dilation", "dilations"))}
    pads = {name: attributes[name] for name in ("pads", "auto_pad") if name in attributes}
    how |= {"groups": group, "bias": bias is not None, "onnx_padding": pads}
    sizes = [weight.shape[1] * group, weight.shape[0], list(weight.shape[2:])]
    return "Conv", {"sizes": sizes, "how": how}, _weights(weight=weight, bias=bias)


def batch_norm(known, attributes) -> Layer | None:
    """BatchNormalization with stored statistics, unless it is one of weights."""
    if known[0] is not None:
        return None
    if any(value is None for value in known[1:5]):
        raise UnknownLayer("has a BatchNorm whose statistics are computed; export it in eval mode")
    scale, shift, mean, variance = known[1:5]
    weights = _weights(weight=scale, bias=shift, running_mean=mean, running_var=variance)
    weights["num_batches_tracked"] = torch.tensor(0)
    return "BatchNormalization", {"sizes": [len(mean)], "how": {"eps": attributes.get("epsilon", 1e-5)}}, weights


def gemm(known, attributes) -> Layer | None:
    """Gemm of what is computed with a stored matrix."""
    weight, bias = known[1], known[2] if len(known) > 2 else None
    if weight is None or attributes.get("transA", 0) or (len(known) > 2 and bias is None):
        return None
    if bias is not None and bias.ndim == 2 and len(bias) > 1:  # another one for each image
        return None
    weight = attributes.get("alpha", 1.0) * (weight if attributes.get("transB", 0) else weight.T)
    if bias is not None:
        bias = attributes.get("beta", 1.0) * bias.expand(1, len(weight)).flatten()
    return _linear(weight, bias)


def matrix_product(known, attributes) -> Layer | None:
    """MatMul of what is computed with a stored matrix."""
    return _linear(known[1].T, None) if known[1] is not None and known[1].ndim == 2 else None


READERS: dict[str, Callable[..., Layer | None]] = {
    "Conv": convolution, "BatchNormalization": batch_norm, "Gemm": gemm, "MatMul": matrix_product,
}  # fmt: skip


def bias_of(before, inputs, known):
    """The bias (F) that an Add of ``inputs`` is to the linear layer in the node before it; None where it is another addition.

    before: that node as the reader has it (operator, inputs, outputs, attributes, weights), or None.
    """
    bias = known[0] if known[0] is not None else known[1]
    fits = before and before[0] == "Linear" and before[2][0] in inputs and "bias" not in before[4] and bias is not None
    if not fits or bias.shape[-1:] != before[4]["weight"].shape[:1] or bias.numel() != bias.shape[-1]:
        return None
    return bias.flatten()


def _linear(weight, bias) -> Layer:
    how = {"sizes": [weight.shape[1], weight.shape[0]], "how": {"bias": bias is not None}}
    return "Linear", how, _weights(weight=weight, bias=bias)


def _weights(**given) -> dict[str, torch.Tensor]:
    return {name: value.float().contiguous() for name, value in given.items() if value is not None}
