"""What ONNX operators compute, as functions of tensors: operator -> function(inputs, attributes).

Closed: a graph can name nothing else. Layers with weights are modules and stand in ``onnx_graph``. Shapes are tensors of
integers on the CPU, whatever device the images are on. As the standard has them (onnx.ai/onnx/operators), opset 7 to 21: what
later opsets take as inputs, earlier ones took as attributes.
"""

import torch
import torch.nn.functional as F

from ..runtime.errors import UserError
from . import onnx_shapes, onnx_upsampling
from .onnx_shapes import argument, listed

TYPES = {1: torch.float32, 6: torch.int64, 7: torch.int64, 9: torch.bool, 10: torch.float32, 11: torch.float32}


def _both(function):
    """An operator of two tensors, or of more from the left; a shape on the CPU and an image do not meet otherwise."""

    def apply(inputs, attributes):
        result = inputs[0]
        for other in inputs[1:]:
            if result.device != other.device:
                device = result.device if result.device.type != "cpu" else other.device
                result, other = result.to(device), other.to(device)
            result = function(result, other)
        return result

    return apply


def _divide(dividend, divisor):
    return dividend / divisor if dividend.is_floating_point() else torch.div(dividend, divisor, rounding_mode="trunc")


def _reduce(function):
    def apply(inputs, attributes):
        axes = listed(argument(inputs, attributes, 1, "axes", []))
        if not axes and not attributes.get("noop_with_empty_axes"):
            axes = list(range(inputs[0].ndim))
        return function(inputs[0], axes, bool(attributes.get("keepdims", 1))) if axes else inputs[0]

    return apply


def _softmax(function):
    def apply(inputs, attributes):
        if attributes["opset"] >= 13:
            return function(inputs[0], attributes.get("axis", -1))
        axis = attributes.get("axis", 1) % inputs[0].ndim  # before opset 13: over all axes from this one on
        return function(inputs[0].flatten(axis), axis).reshape(inputs[0].shape)

    return apply


def _pool(function):
    def apply(inputs, attributes):
        kernel = attributes["kernel_shape"]
        strides = attributes.get("strides", [1] * len(kernel))
        dilations = attributes.get("dilations", [1] * len(kernel))
        pads = padding(attributes, inputs[0].shape[2:], kernel, strides, dilations)
        up = bool(attributes.get("ceil_mode", 0))
        return function(inputs[0], kernel, strides, pads, dilations, up, bool(attributes.get("count_include_pad", 0)))

    return apply


def padding(attributes, sizes, kernel, strides, dilations) -> list[int]:
    """Padding as F.pad takes it, (left, right, top, bottom) for two dimensions; ONNX has all beginnings and then all ends."""
    mode = attributes.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        pads = attributes.get("pads", [0] * 2 * len(kernel)) if mode == "NOTSET" else [0] * 2 * len(kernel)
    else:
        whole = [
            max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size) for size, k, s, d in zip(sizes, kernel, strides, dilations)
        ]
        small = [total // 2 for total in whole]
        large = [total - half for total, half in zip(whole, small)]
        pads = small + large if mode == "SAME_UPPER" else large + small
    half = len(kernel)
    return [pads[axis + part * half] for axis in reversed(range(half)) for part in (0, 1)]


def _pads_itself(pads, kernel) -> bool:
    """Whether torch's pooling takes this padding: equal on opposite sides, and at most half of the kernel."""
    return pads[::2] == pads[1::2] and all(2 * pad <= size for pad, size in zip(pads[::2], reversed(kernel)))


def _max_pool(images, kernel, strides, pads, dilations, up, _):
    if _pads_itself(pads, kernel):
        return F.max_pool2d(images, kernel, strides, pads[::2][::-1], dilations, up)
    return F.max_pool2d(F.pad(images, pads, value=float("-inf")), kernel, strides, 0, dilations, up)


def _average_pool(images, kernel, strides, pads, dilations, up, counted):
    if _pads_itself(pads, kernel):
        return F.avg_pool2d(images, kernel, strides, pads[::2][::-1], up, counted)
    total = F.avg_pool2d(F.pad(images, pads), kernel, strides, 0, up)
    return total if counted else total / F.avg_pool2d(F.pad(torch.ones_like(images), pads), kernel, strides, 0, up)


def _clip(inputs, attributes):
    low, high = (argument(inputs, attributes, place, name) for place, name in ((1, "min"), (2, "max")))
    return inputs[0] if low is None and high is None else inputs[0].clamp(low, high)


def _matmul_into(inputs, attributes):
    """Gemm whose factors are both computed; one with a constant factor is a linear layer."""
    left, right = (part.T if attributes.get(name, 0) else part for part, name in zip(inputs, ("transA", "transB")))
    product = attributes.get("alpha", 1.0) * (left @ right)
    return product + attributes.get("beta", 1.0) * inputs[2] if len(inputs) > 2 else product


def _layer_norm(inputs, attributes):
    shape = inputs[0].shape[attributes.get("axis", -1) % inputs[0].ndim :]
    return F.layer_norm(inputs[0], shape, *[*inputs[1:], None][:2], attributes.get("epsilon", 1e-5))


def _group_norm(inputs, attributes):
    """GroupNormalization, whose factors were one for each group before opset 21."""
    images, factors, groups = inputs[0], inputs[1:], attributes["num_groups"]
    if len(factors[0]) != images.shape[1]:
        factors = [factor.repeat_interleave(images.shape[1] // groups) for factor in factors]
    return F.group_norm(images, groups, *factors, attributes.get("epsilon", 1e-5))


def _rms_norm(inputs, attributes):
    shape = inputs[0].shape[attributes.get("axis", -1) % inputs[0].ndim :]
    return F.rms_norm(inputs[0], shape, inputs[1], attributes.get("epsilon", 1e-5))


def _local_response_norm(inputs, attributes):
    how = attributes["size"], attributes.get("alpha", 1e-4), attributes.get("beta", 0.75), attributes.get("bias", 1.0)
    return F.local_response_norm(inputs[0], *how)


def _modulo(inputs, attributes):
    return (torch.fmod if attributes.get("fmod", 0) else torch.remainder)(*inputs)


def _constant_norm(inputs, attributes):
    """BatchNormalization of a constant, as of weights that are standardised; any other is a layer."""
    scale, shift, mean, variance = inputs[1:5]
    return F.batch_norm(inputs[0], mean, variance, scale, shift, eps=attributes.get("epsilon", 1e-5))


def _where(inputs, attributes):
    device = next((tensor.device for tensor in inputs if tensor.device.type != "cpu"), inputs[0].device)
    return torch.where(*(tensor.to(device) for tensor in inputs))


def _cast(inputs, attributes):
    if attributes["to"] not in TYPES:
        raise UserError(f"casts to the ONNX type {attributes['to']}, which no floating-point classifier needs; export it in fp32")
    return inputs[0].to(TYPES[attributes["to"]])


def _unary(function):
    return lambda inputs, attributes: function(inputs[0])


OPERATORS = {
    "Add": _both(torch.add), "Sub": _both(torch.sub), "Mul": _both(torch.mul), "Div": _both(_divide), "Pow": _both(torch.pow),
    "Max": _both(torch.maximum), "Min": _both(torch.minimum), "Sum": _both(torch.add), "MatMul": _both(torch.matmul),
    "Mean": lambda inputs, attributes: sum(inputs) / len(inputs), "Mod": _modulo,
    "Equal": _both(torch.eq), "Less": _both(torch.lt), "Greater": _both(torch.gt), "And": _both(torch.logical_and),
    "LessOrEqual": _both(torch.le), "GreaterOrEqual": _both(torch.ge), "Or": _both(torch.logical_or),
    "Xor": _both(torch.logical_xor), "Sin": _unary(torch.sin), "Cos": _unary(torch.cos), "Sign": _unary(torch.sign),
    "Round": _unary(torch.round), "Softsign": _unary(F.softsign), "Size": _unary(lambda values: torch.tensor(values.numel())),
    "CastLike": lambda inputs, attributes: inputs[0].to(inputs[1].dtype), "Cast": _cast, "Where": _where,
    "Sqrt": _unary(torch.sqrt), "Exp": _unary(torch.exp), "Log": _unary(torch.log), "Abs": _unary(torch.abs),
    "Erf": _unary(torch.erf), "Floor": _unary(torch.floor), "Ceil": _unary(torch.ceil), "Reciprocal": _unary(torch.reciprocal),
    "Not": _unary(torch.logical_not), "Relu": _unary(F.relu), "Sigmoid": _unary(torch.sigmoid), "Tanh": _unary(torch.tanh),
    "Softplus": _unary(F.softplus), "Mish": _unary(F.mish), "HardSwish": _unary(F.hardswish), "Neg": _unary(torch.neg),
    "Identity": _unary(lambda values: values), "Dropout": _unary(lambda values: values),
    "LeakyRelu": lambda inputs, attributes: F.leaky_relu(inputs[0], attributes.get("alpha", 0.01)),
    "Elu": lambda inputs, attributes: F.elu(inputs[0], attributes.get("alpha", 1.0)),
    "Celu": lambda inputs, attributes: F.celu(inputs[0], attributes.get("alpha", 1.0)),
    "Selu": lambda inputs, attributes: attributes.get("gamma", 1.0507009873554805) * F.elu(
        inputs[0], attributes.get("alpha", 1.6732632423543772)
    ),
    "Swish": lambda inputs, attributes: inputs[0] * torch.sigmoid(attributes.get("alpha", 1.0) * inputs[0]),
    "ThresholdedRelu": lambda inputs, attributes: F.threshold(inputs[0], attributes.get("alpha", 1.0), 0.0),
    "PRelu": lambda inputs, attributes: torch.where(inputs[0] > 0, inputs[0], inputs[0] * inputs[1]),
    "HardSigmoid": lambda inputs, attributes: F.hardtanh(
        attributes.get("alpha", 0.2) * inputs[0] + attributes.get("beta", 0.5), 0.0, 1.0
    ),
    "Gelu": lambda inputs, attributes: F.gelu(inputs[0], approximate=attributes.get("approximate", "none")),
    "Clip": _clip, "Softmax": _softmax(torch.softmax), "LogSoftmax": _softmax(torch.log_softmax),
    "Gemm": _matmul_into, "LayerNormalization": _layer_norm, "GroupNormalization": _group_norm, "LRN": _local_response_norm,
    "RMSNormalization": _rms_norm, "BatchNormalization": _constant_norm,
    "InstanceNormalization": lambda inputs, attributes: F.instance_norm(
        inputs[0], weight=inputs[1], bias=inputs[2], eps=attributes.get("epsilon", 1e-5)
    ),
    "LpNormalization": lambda inputs, attributes: F.normalize(inputs[0], attributes.get("p", 2), attributes.get("axis", -1)),
    "Einsum": lambda inputs, attributes: torch.einsum(attributes["equation"], *inputs),
    "Shape": lambda inputs, attributes: torch.tensor(inputs[0].shape[attributes.get("start", 0) : attributes.get("end")]),
    "Reshape": onnx_shapes.reshape, "Flatten": onnx_shapes.flatten, "Squeeze": onnx_shapes.squeeze,
    "Unsqueeze": onnx_shapes.unsqueeze, "Slice": onnx_shapes.slices, "Split": onnx_shapes.split, "Gather": onnx_shapes.gather,
    "Pad": onnx_shapes.pad, "Expand": onnx_shapes.expand, "ConstantOfShape": onnx_shapes.constant_of_shape,
    "Tile": lambda inputs, attributes: inputs[0].tile(tuple(inputs[1].tolist())), "Trilu": onnx_shapes.triangle,
    "CumSum": onnx_shapes.running_sum, "GatherElements": onnx_shapes.gather_elements, "ScatterND": onnx_shapes.scatter,
    "DepthToSpace": onnx_shapes.depth_to_space, "SpaceToDepth": onnx_shapes.space_to_depth,
    "Concat": lambda inputs, attributes: torch.cat(inputs, attributes["axis"]),
    "Transpose": lambda inputs, attributes: inputs[0].permute(attributes.get("perm", list(range(inputs[0].ndim))[::-1])),
    "Range": lambda inputs, attributes: torch.arange(*(values.item() for values in inputs)),
    "ReduceMean": _reduce(torch.mean), "ReduceSum": _reduce(torch.sum), "ReduceMax": _reduce(torch.amax),
    "ReduceMin": _reduce(torch.amin), "ReduceL1": _reduce(lambda values, axes, kept: values.abs().sum(axes, kept)),
    "ReduceSumSquare": _reduce(lambda values, axes, kept: values.square().sum(axes, kept)),
    "ReduceLogSum": _reduce(lambda values, axes, kept: values.sum(axes, kept).log()),
    "ReduceLogSumExp": _reduce(torch.logsumexp),
    "ReduceL2": _reduce(lambda values, axes, kept: values.square().sum(axes, kept).sqrt()),
    "GlobalAveragePool": _unary(lambda maps: maps.mean(tuple(range(2, maps.ndim)), True)),
    "GlobalMaxPool": _unary(lambda maps: maps.amax(tuple(range(2, maps.ndim)), True)),
    "Resize": onnx_upsampling.resize, "ConvTranspose": onnx_upsampling.conv_transpose,
    "MaxPool": _pool(_max_pool), "AveragePool": _pool(_average_pool),
}  # fmt: skip


def unknown(operator: str, attributes) -> str | None:
    """Which form of an operator is not known here ('' where none is), or None where this one is."""
    if operator not in OPERATORS:
        return ""
    if operator == "AveragePool" and set(attributes.get("dilations", ())) - {1}:
        return "with dilations"
    if operator == "ScatterND" and attributes.get("reduction", "none") != "none":
        return "with a reduction"
    if operator == "Pad" and attributes.get("mode") == "wrap":
        return "of mode wrap"
    return onnx_upsampling.unknown(operator, attributes)
