"""Image files: which formats are read, and what is refused before any pixel is decoded."""

import contextlib
import os

from ..runtime.errors import UserError, reading, require_file
from .array_files import fits

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # Pillow knows dozens, and starts programs for some of them


def in_order(folders) -> list[str]:
    """The names of class folders in the order of the labels: sorted, and where all of them are numbers, by value."""
    folders = list(folders)
    return sorted(folders, key=(lambda name: (int(name), name)) if all(map(str.isdecimal, folders)) else None)


@contextlib.contextmanager
def opened(path):
    """The Pillow image in a file, of 8 bits per channel; raises UserError where it is none, as what it is used for raises."""
    from PIL import Image

    require_file(path)
    with (
        reading(path, f"is not a readable {', '.join(FORMATS)} image", "convert or remove it"),
        Image.open(path, formats=FORMATS) as stored,
    ):
        if stored.mode[0] in "IF":
            raise UserError(f"{path}: has more than 8 bits per channel (mode {stored.mode}); convert it to 8 bits")
        fits(path, (stored.width, stored.height, 3), os.path.getsize(path))
        yield stored
