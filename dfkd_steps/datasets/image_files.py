"""Image files: which formats are read, and what is refused before any pixel is decoded."""

import contextlib
import os

from ..runtime.errors import UserError, reading, require_file
from .array_files import fits

SPLITS = {"train", "test", "val", "valid", "validation"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # Pillow knows dozens, and starts programs for some of them


def in_order(folders) -> list[str]:
    """The names of class folders in the order of the labels: sorted, and where all of them are numbers, by value."""
    folders = list(folders)
    return sorted(folders, key=(lambda name: (int(name), name)) if all(map(str.isdecimal, folders)) else None)


def is_hidden(path, root) -> bool:
    """Does the name of a file, or of a folder between it and ``root``, begin with a dot? ``path`` begins with ``root``."""
    return f"{os.sep}." in os.sep + str(path).removeprefix(str(root))


def folders_in(folder) -> list[str]:
    """The names of the folders in a folder, hidden ones left out; in no order, and none where there is no such folder."""
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]


def is_split(folder) -> bool:
    """Is train/ in a folder of images a part of the data set, that has a folder per class, and not a class of that name?

    Where no other folder can be a class, it is a part in any case, so that who reads it can say what it lacks.
    """
    there = folders_in(folder)
    return "train" in there and (bool(folders_in(os.path.join(folder, "train"))) or SPLITS.issuperset(there))


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
