"""Images of a data set that memory need not hold, while the data set is made of a folder."""

import math
import tempfile

import numpy as np

from ..runtime import disk, memory
from .array_files import fits

FOLDERS = ("images", "masks")  # sources whose images are decoded one by one


class OnDisk:
    """Rows of an array of bytes in a file: ``images[2:5]`` reads them, ``images[integers]`` are these rows, not read yet."""

    def __init__(self, array: np.ndarray, rows: np.ndarray | None = None):
        self.array, self.rows = array, np.arange(len(array)) if rows is None else rows
        self.shape, self.dtype = (len(self.rows), *array.shape[1:]), array.dtype
        self.ndim, self.nbytes = array.ndim, math.prod(self.shape) * array.itemsize

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, rows):
        return np.asarray(self.array[self.rows[rows]]) if isinstance(rows, slice) else OnDisk(self.array, self.rows[rows])


def is_large(size: int) -> bool:
    """Should memory not hold so many bytes of images?"""
    return size > memory.here() // 4


def filled(where, shape, room, fill):
    """An array (N,C,H,W) of bytes that ``fill(array)`` has written; where they are many, in a file without a name
    in the folder ``room``, which is gone with the process. ``where``: what a line says that is about a machine without room."""
    if room is None or not is_large(math.prod(shape)):
        fits(where, shape)
        array = np.empty(shape, np.uint8)
        fill(array)
        return array
    file = tempfile.TemporaryFile(dir=room)  # noqa: SIM115
    disk.allocate(file, math.prod(shape))
    array = np.memmap(file, np.uint8, "r+", shape=shape)
    fill(array)
    return OnDisk(array)
