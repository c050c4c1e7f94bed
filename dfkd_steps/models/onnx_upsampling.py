"""ONNX operators that make images larger, as segmentation networks have them; see ``onnx_operators``."""

import torch.nn.functional as F

# ONNX's mode, coordinates and rounding -> mode and align_corners of F.interpolate. Of pytorch_half_pixel an image of one pixel
# would differ, and of rounding one that is made smaller: the comparison with onnxruntime refuses them.
RESIZED = {
    ("linear", "half_pixel"): ("bilinear", False),
    ("linear", "pytorch_half_pixel"): ("bilinear", False),
    ("linear", "align_corners"): ("bilinear", True),
    ("cubic", "half_pixel"): ("bicubic", False),
    ("cubic", "pytorch_half_pixel"): ("bicubic", False),
    ("cubic", "align_corners"): ("bicubic", True),
    ("nearest", "asymmetric", "floor"): ("nearest", None),
    ("nearest", "half_pixel", "round_prefer_floor"): ("nearest-exact", None),
    ("nearest", "half_pixel", "round_prefer_ceil"): ("nearest-exact", None),
}
PLAIN = {"antialias": 0, "exclude_outside": 0, "cubic_coeff_a": -0.75, "axes": None, "keep_aspect_ratio_policy": "stretch"}


def conv_transpose(inputs, attributes):
    """ConvTranspose of images (N,C,H,W), weights (C,D,h,w) and perhaps a bias (D)."""
    kernel = list(inputs[1].shape[2:])
    strides, dilations, more = (
        attributes.get(name, [value] * len(kernel)) for name, value in (("strides", 1), ("dilations", 1), ("output_padding", 0))
    )
    bias = inputs[2] if len(inputs) > 2 else None
    whole = F.conv_transpose2d(inputs[0], inputs[1], bias, strides, 0, more, attributes.get("group", 1), dilations)
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    return whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]


def form_of(attributes) -> tuple[str, ...]:
    """Mode and coordinates of a Resize, and of the nearest pixel the rounding."""
    old = attributes["opset"] < 11
    mode, where = attributes.get("mode", "nearest"), "asymmetric" if old else "half_pixel"
    form = mode, attributes.get("coordinate_transformation_mode", where)
    return (*form, attributes.get("nearest_mode", "floor" if old else "round_prefer_floor")) if mode == "nearest" else form


def resize(inputs, attributes):
    """Resize of images (N,C,H,W), region (not read), and either factors or sizes, one for each dimension."""
    mode, aligned = RESIZED[form_of(attributes)]
    if len(inputs) > 3 and inputs[3] is not None:
        return F.interpolate(inputs[0], inputs[3].tolist()[2:], mode=mode, align_corners=aligned)
    scales = inputs[1 if attributes["opset"] < 11 else 2].tolist()[2:]
    return F.interpolate(inputs[0], scale_factor=scales, mode=mode, align_corners=aligned)


def unknown(operator: str, attributes) -> str | None:
    """Which form of an operator is not known here, or None."""
    if operator == "Resize":
        odd = {name: attributes[name] for name, value in PLAIN.items() if attributes.get(name, value) != value}
        known = not odd and form_of(attributes) in RESIZED
        return None if known else f"in the form {', '.join([*form_of(attributes), *odd])}"
    if operator == "ConvTranspose" and (attributes.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in attributes):
        return "with auto_pad or output_shape instead of pads"
    return None
