"""Images as they are stored (uint8 or floats) and as numbers in [0,1]."""

import numpy as np

IMAGE_TYPES = ("uint8", "float16", "float32")


def to_stored(images: np.ndarray, image_type: str) -> np.ndarray:
    """Images in [0,1] as they are stored: uint8 by rounding, or floats; NaN raises FloatingPointError."""
    if not np.isfinite(images).all():
        raise FloatingPointError("images: not a finite number")  # uint8 would hide it
    if image_type == "uint8":
        return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    return np.clip(images, 0, 1).astype(image_type)


def to_unit(images: np.ndarray) -> np.ndarray:
    """Stored images as float32 in [0,1]."""
    return images.astype(np.float32) / 255 if images.dtype == np.uint8 else images.astype(np.float32)
