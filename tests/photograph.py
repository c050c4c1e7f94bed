"""Photographs for methods that take crops of one."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def path(seed: int) -> str:
    """A file with 60 x 80 random pixels in colour."""
    file = _folder() / f"{seed}.png"
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)).save(file)
    return str(file)
