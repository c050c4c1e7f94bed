"""Image files: which formats are read, and what is refused before any pixel is decoded."""

import contextlib
import itertools
import os
from pathlib import Path

import numpy as np

from ..runtime import disk, progress
from ..runtime.errors import UserError, reading, require_file
from .array_files import fits

TESTS = ("test", "val", "valid", "validation")  # the part beside train/; of several the first
SPLITS = {"train", *TESTS}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")  # Pillow knows dozens, and starts programs for some of them


def in_order(folders) -> list[str]:
    """The names of class folders in the order of the labels: sorted, and where all of them are numbers, by value."""
    folders = list(folders)
    return sorted(folders, key=(lambda name: (int(name), name)) if all(map(str.isdecimal, folders)) else None)


def is_hidden(path, root) -> bool:
    """Does the name of a file, or of a folder between it and ``root``, begin with a dot? ``path`` begins with ``root``."""
    return f"{os.sep}." in os.sep + str(path).removeprefix(str(root))


def below(folder: Path, suffixes, deep: bool = True) -> list[Path]:
    """The files in a folder, and with ``deep`` in the folders in it, whose names end in one of ``suffixes``, in any case; sorted,
    hidden ones left out; none is opened."""
    walked = disk.walk(folder)
    paths = (Path(here, name) for here, _, names in (walked if deep else itertools.islice(walked, 1)) for name in names)
    return sorted(path for path in paths if path.suffix.lower() in suffixes and not is_hidden(path, folder))


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


def test_part(folder: Path) -> Path | None:
    """The folder of the test images beside train/: test/, else val/ or one of its other names, which is said; None where there
    is none of these."""
    part = next((folder / name for name in TESTS if (folder / name).is_dir()), None)
    if part and part.name != TESTS[0]:
        progress.say(f"{folder}: has no test/, so the images in {part.name}/ are the test set")
    return part


def few(where, labels, most: int) -> np.ndarray:
    """The rows (M), ascending, of about ``most`` of the images with these labels (N): as many of each class, at least two of it,
    evenly spaced; those of all images where there are no more, or ``most`` is 0. ``where``: a line that leaves some out says it.
    """
    labels = np.asarray(labels)
    if not most or len(labels) <= most:
        return np.arange(len(labels))
    counts = np.bincount(labels)
    each = max(2, most // len(counts))  # two, so that one can be held out for testing
    classes = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    rows = [rows[np.linspace(0, len(rows) - 1, min(each, len(rows))).astype(int)] for rows in classes]
    rows = np.sort(np.concatenate(rows))
    progress.say(f"{where}: reads {len(rows):,} of {len(labels):,} images")
    return rows


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
