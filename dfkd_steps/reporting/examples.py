"""A few test images of a segmentation task with the maps of truth, teacher and student laid over them, as one small PNG."""

import colorsys
import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

from ..models.tasks import VOID

FILE = "examples.png"
IMAGES, WIDEST = 4, 160  # rows of the sheet, and pixels of a tile
COLUMNS = ("image", "truth", "teacher", "student")
OPAQUE = 0.6  # of a map over its image


def rows_of(number: int) -> np.ndarray:
    """The images that are shown, evenly over all."""
    return np.unique(np.linspace(0, number - 1, min(IMAGES, number)).round().astype(int))


def palette(classes: int) -> np.ndarray:
    """A colour for each class (K,3) uint8: hues by the golden ratio, lightness in turn."""
    hues = [(place * 0.618034) % 1 for place in range(classes)]
    colours = [colorsys.hls_to_rgb(hue, (0.45, 0.65, 0.35)[place % 3], 0.8) for place, hue in enumerate(hues)]
    return np.rint(np.array(colours) * 255).astype(np.uint8)


def sheet(images: np.ndarray, maps: dict[str, np.ndarray], classes: int) -> bytes:
    """Images (n,C,H,W) uint8 and, by the names of ``COLUMNS``, maps (n,H,W) -> a PNG, a row for each image; void pixels show
    the image."""
    rgb = np.repeat(images.mean(1, keepdims=True), 3, 1) if images.shape[1] != 3 else images
    pictures = rgb.transpose(0, 2, 3, 1).astype(np.uint8)
    columns, colours = [pictures], np.concatenate([palette(classes), np.zeros((256 - classes, 3), np.uint8)])
    for name in COLUMNS[1:]:
        mixed = np.rint(OPAQUE * colours[maps[name]] + (1 - OPAQUE) * pictures).astype(np.uint8)
        columns.append(np.where((maps[name] == VOID)[..., None], pictures, mixed))
    height, width = pictures.shape[1:3]
    size = (min(WIDEST, width), max(1, round(height * min(WIDEST, width) / width)))
    whole = Image.new("RGB", (len(columns) * (size[0] + 2), len(pictures) * (size[1] + 2)), "white")
    for across, column in enumerate(columns):
        for down, picture in enumerate(column):
            tile = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
            whole.paste(tile, (across * (size[0] + 2), down * (size[1] + 2)))
    buffer = io.BytesIO()
    whole.quantize(256).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def digest(content: bytes) -> str:
    """What metrics.json says of the file beside it."""
    return hashlib.sha256(content).hexdigest()


def of_run(metrics: Path, said) -> bytes | None:
    """The sheet beside a metrics.json that says its digest; None where it is not there, or another's."""
    path = metrics.with_name(FILE)
    content = path.read_bytes() if path.is_file() and path.stat().st_size < 1 << 23 else b""
    return content if isinstance(said, list) and said == [digest(content)] else None
