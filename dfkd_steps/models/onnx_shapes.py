"""ONNX operators that move values about, or make them from a shape; see ``onnx_operators``."""

import torch
import torch.nn.functional as F


def argument(inputs, attributes, place: int, name: str, default=None):
    """What is the input number ``place`` in later opsets and an attribute in earlier ones; a list, a number or None."""
    if len(inputs) > place and inputs[place] is not None:
        return inputs[place].tolist()
    return attributes.get(name, default)


def listed(value) -> list[int]:
    """A number as a list of one."""
    return value if isinstance(value, list) else [value]


def reshape(inputs, attributes):
    """Reshape; 0 is the size of that place before, unless ``allowzero``."""
    images, shape = inputs[0], argument(inputs, attributes, 1, "shape")
    if not attributes.get("allowzero", 0):
        shape = [images.shape[place] if size == 0 else size for place, size in enumerate(shape)]
    return images.reshape(tuple(shape))


def flatten(inputs, attributes):
    """Flatten to two dimensions, before and from the axis."""
    axis = attributes.get("axis", 1)
    axis += inputs[0].ndim if axis < 0 else 0  # unlike elsewhere it may be the number of dimensions
    return inputs[0].flatten(axis).reshape(*inputs[0].shape[:axis], -1).flatten(0, axis - 1) if axis else inputs[0].reshape(1, -1)


def squeeze(inputs, attributes):
    """Squeeze."""
    axes = argument(inputs, attributes, 1, "axes")
    return inputs[0].squeeze() if axes is None else inputs[0].squeeze(tuple(listed(axes)))


def unsqueeze(inputs, attributes):
    """Unsqueeze."""
    result, axes = inputs[0], listed(argument(inputs, attributes, 1, "axes"))
    rank = result.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        result = result.unsqueeze(axis)
    return result


def slices(inputs, attributes):
    """Slice."""
    starts, ends = (listed(argument(inputs, attributes, place, name)) for place, name in ((1, "starts"), (2, "ends")))
    axes = argument(inputs, attributes, 3, "axes", list(range(len(starts))))
    steps = argument(inputs, attributes, 4, "steps", [1] * len(starts))
    result = inputs[0]
    for start, end, axis, step in zip(starts, ends, listed(axes), listed(steps)):
        size = result.shape[axis]
        if step > 0:
            start, end = (max(0, min(size, edge + size if edge < 0 else edge)) for edge in (start, end))
            rows = torch.arange(start, max(start, end), step, device=result.device)
        else:
            start = min(size - 1, start + size if start < 0 else start)
            end = max(-1, end + size if end < 0 else end)
            rows = torch.arange(start, min(start, end), step, device=result.device)
        plain = step == 1
        result = result.narrow(axis, start, len(rows)) if plain else result.index_select(axis, rows)
    return result


def split(inputs, attributes):
    """Split into parts of given sizes, or into as many as the node has outputs."""
    axis, size = attributes.get("axis", 0), inputs[0].shape[attributes.get("axis", 0)]
    sizes = argument(inputs, attributes, 1, "split")
    if sizes is None:
        number = attributes.get("num_outputs", attributes["outputs"])
        each = -(-size // number)
        sizes = [each] * (number - 1) + [size - each * (number - 1)]
    return inputs[0].split(sizes, axis)


def _from_the_start(places, size: int):
    """Places of which negative ones count from the end."""
    return torch.where(places < 0, places + size, places)


def gather(inputs, attributes):
    """Gather: rows along an axis."""
    source, axis = inputs[0], attributes.get("axis", 0)
    places = inputs[1].to(source.device)
    places = _from_the_start(places, source.shape[axis])
    gathered = source.index_select(axis, places.flatten())
    axis %= source.ndim
    return gathered.reshape((*source.shape[:axis], *places.shape, *source.shape[axis + 1 :]))


def pad(inputs, attributes):
    """Pad."""
    mode = attributes.get("mode", "constant")
    pads = argument(inputs, attributes, 1, "pads")
    value = argument(inputs, attributes, 2, "value", 0.0)
    rank = inputs[0].ndim
    axes = [axis % rank for axis in listed(argument(inputs, attributes, 3, "axes", list(range(rank))))]
    before, after = dict(zip(axes, pads[: len(axes)])), dict(zip(axes, pads[len(axes) :]))
    turned = [size for axis in reversed(range(rank)) for size in (before.get(axis, 0), after.get(axis, 0))]
    while mode != "constant" and turned[-2:] == [0, 0]:
        turned = turned[:-2]
    return F.pad(inputs[0], turned, {"edge": "replicate"}.get(mode, mode), *([value or 0.0] if mode == "constant" else []))


def constant_of_shape(inputs, attributes):
    """ConstantOfShape."""
    value = attributes.get("value", [0.0])
    return torch.full(inputs[0].tolist(), value[0], dtype=torch.float32 if isinstance(value[0], float) else torch.int64)


def expand(inputs, attributes):
    """Expand, and be expanded."""
    shape = torch.broadcast_shapes(inputs[0].shape, inputs[1].tolist())
    return inputs[0].expand(shape)


def gather_elements(inputs, attributes):
    """GatherElements: one index for each value of the result."""
    axis = attributes.get("axis", 0)
    places = inputs[1].to(inputs[0].device)
    return inputs[0].gather(axis, _from_the_start(places, inputs[0].shape[axis]))


def scatter(inputs, attributes):
    """ScatterND: values that are put in the places (..., D) of an array's first D dimensions."""
    result = inputs[0].clone()
    result[inputs[1].to(result.device).unbind(-1)] = inputs[2].to(result.device)
    return result


def triangle(inputs, attributes):
    """Trilu: one triangle of a matrix, the other zero."""
    diagonal = int(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else 0
    return (torch.triu if attributes.get("upper", 1) else torch.tril)(inputs[0], diagonal)


def running_sum(inputs, attributes):
    """CumSum."""
    axis = int(inputs[1])
    turned = inputs[0].flip(axis) if attributes.get("reverse", 0) else inputs[0]
    total = turned.cumsum(axis)
    total = total - turned if attributes.get("exclusive", 0) else total
    return total.flip(axis) if attributes.get("reverse", 0) else total


def depth_to_space(inputs, attributes):
    """DepthToSpace of images (N,C,H,W): (N, C / size^2, H * size, W * size)."""
    size, (number, channels, height, width) = attributes["blocksize"], inputs[0].shape
    if attributes.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(inputs[0], size)
    parts = inputs[0].reshape(number, size, size, -1, height, width).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(number, channels // size**2, height * size, width * size)


def space_to_depth(inputs, attributes):
    """SpaceToDepth of images (N,C,H,W): (N, C * size^2, H / size, W / size)."""
    size, (number, channels, height, width) = attributes["blocksize"], inputs[0].shape
    if attributes.get("mode", "DCR") == "CRD":
        return F.pixel_unshuffle(inputs[0], size)
    parts = inputs[0].reshape(number, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(number, channels * size**2, height // size, width // size)
