"""Images as they are stored (uint8 or floats) and as numbers in [0,1]."""

import numpy as np

from ..runtime import memory


def to_stored(images: np.ndarray, image_type: str) -> np.ndarray:
    """Images in [0,1] as they are stored: uint8 by rounding, or floats; NaN raises FloatingPointError."""
    stored = np.empty(images.shape, image_type)
    rows = memory.drawn(images.shape[1:])
    for start in range(0, len(images), rows):  # a large batch would be there four times
        part = images[start : start + rows]
        if not np.isfinite(part).all():
            raise FloatingPointError("images: not a finite number")  # uint8 would hide it
        clipped = np.clip(part, 0, 1)
        stored[start : start + rows] = np.rint(clipped * 255) if image_type == "uint8" else clipped
    return stored


def to_unit(images: np.ndarray) -> np.ndarray:
    """Stored images as float32 in [0,1]."""
    return images.astype(np.float32) / 255 if images.dtype == np.uint8 else images.astype(np.float32)
