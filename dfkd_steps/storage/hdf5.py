"""HDF5 artefacts: contiguous data sets, their rows written and read at fixed places of the file, and a checksum behind.

The library writes and reads the structure alone. Rows go past it: a kill never meets an open HDF5 file, and a memory map
gathers rows many times faster than the library. HDF5 keeps no checksum of contiguous data, and a changed bit in its own
structures can bring the library down, or make it go round for ever. So a checksum stands behind what the library reads, which
passes over that, and it reads in a process of its own, which the system ends after a time.
"""

import io
import math
import mmap
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..runtime import apart, disk
from ..runtime.errors import UserError

MARK, DIGITS = b"dfkd crc32 ", 8
LENGTH = len(MARK) + DIGITS
STRUCTURE = 1 << 16  # bytes that the structure of a file without attributes takes at most
MAX_NUMBERS = 1 << 13  # of an attribute
SECONDS = 20  # of a processor that reading a structure may take; that of a set with 1,000 networks takes 2


# ------------------------------------------------------------------------------------------------- writing
class _Anew(io.RawIOBase):
    """A file as HDF5 sees it that recreates it: empty, while the rows that lie in it stay.

    An error of the system is kept in ``error`` and not raised: HDF5 goes on to call a file object whose exception is pending.
    """

    def __init__(self, file: Any):
        self.file = file
        self.size: Any = 0
        self.error: OSError | None = None

    def seek(self, offset, whence=os.SEEK_SET):
        return self.file.seek(offset + (self.size if whence == os.SEEK_END else 0))

    def tell(self):
        return self.file.tell()

    def readinto(self, buffer):
        return self.file.readinto(buffer)

    def write(self, content):
        try:
            disk.write_at(self.file, self.file.tell(), content)
        except OSError as error:
            self.error = self.error or error
        self.size = max(self.size, self.file.seek(len(content), os.SEEK_CUR))
        return len(content)

    def truncate(self, size=None):
        self.size = size
        try:
            return self.file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size


class Rows:
    """A file to fill, and the rows of its data sets. ``fields``: name -> (shape, element type).

    All bytes are allocated at once, so that a full disk is found here. With ``keep``, the rows of an earlier ``Rows`` of
    these fields at ``path`` stay.
    """

    def __init__(self, path, fields: dict[str, tuple], keep=False):
        self.fields = {name: (tuple(shape), np.dtype(kind)) for name, (shape, kind) in fields.items()}
        self.file = open(path, "r+b" if keep else "w+b", buffering=0)  # noqa: SIM115
        if not keep:
            disk.allocate(self.file, STRUCTURE + sum(math.prod(shape) * kind.itemsize for shape, kind in self.fields.values()))
        self.places = self._structure({}, {})

    def _structure(self, attributes, blobs) -> dict[str, int]:
        """Write all but the rows; the offset of each field, which depends on the fields alone."""
        places = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        places.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        places.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        target = _Anew(self.file)
        with h5py.File(target, "w") as file:
            offsets = {}
            for name, (shape, kind) in self.fields.items():
                offsets[name] = file.create_dataset(name, shape, kind, track_times=False, dcpl=places).id.get_offset()
            file.attrs.update(attributes)
            for name, content in blobs.items():
                file.create_dataset(name, data=np.frombuffer(content, np.uint8), track_times=False)
        if target.error:
            raise target.error
        return offsets

    def _place(self, name, row):
        shape, kind = self.fields[name]
        return self.places[name] + row * math.prod(shape[1:]) * kind.itemsize

    def write(self, name: str, row: int, values: np.ndarray):
        """Rows of a field from number ``row`` on."""
        for piece in disk.pieces(values):
            content = np.ascontiguousarray(piece, self.fields[name][1])
            disk.write_at(self.file, self._place(name, row), content.reshape(-1).view(np.uint8))
            row += len(piece)

    def pieces(self, name: str, rows: int):
        """The first ``rows`` rows of a field in order, a few MB at a time: (number of the first, values)."""
        shape, kind = self.fields[name]
        step = disk.rows_of_a_piece(math.prod(shape[1:]) * kind.itemsize)
        for start in range(0, rows, step):
            values = np.empty((min(step, rows - start), *shape[1:]), kind)
            self.file.seek(self._place(name, start))
            if self.file.readinto(values.reshape(-1).view(np.uint8).data) < values.nbytes:
                raise EOFError(f"{self.file.name}: ends inside the field {name}")
            yield start, values

    def first(self, rows: int) -> "Rows":
        """A copy with no more than the first ``rows`` rows of each field, in the place of this file."""
        smaller = Rows(
            f"{self.file.name}.next", {name: ((rows, *shape[1:]), kind) for name, (shape, kind) in self.fields.items()}
        )
        for name in self.fields:
            for start, values in self.pieces(name, rows):
                smaller.write(name, start, values)
        os.replace(smaller.file.name, self.file.name)
        self.file.close()
        return smaller

    def finish(self, attributes: dict, blobs: dict[str, bytes]):
        """Write the attributes, and each of ``blobs`` as a data set of bytes; then the checksum. Closes the file."""
        if self._structure(attributes, blobs) != self.places:
            raise RuntimeError("HDF5 put the same fields elsewhere")
        _seal(self.file)
        self.file.close()


# ------------------------------------------------------------------------------------------------- checksum
def seal(path):
    """Append the checksum of all of a finished file to it."""
    with open(path, "r+b") as file:
        _seal(file)


def _seal(file):
    size = file.seek(0, os.SEEK_END)
    disk.write_at(file, size, MARK + b"%08x" % _checksum(file, size))


def broken_seal(path) -> str | None:
    """Why a file is not as it was sealed, or None where it is. Reads all of it."""
    mark = stored(path)
    if mark is None:
        return "is damaged or cut off (no checksum at its end)"
    with open(path, "rb") as file:
        checksum = _checksum(file, file.seek(0, os.SEEK_END) - LENGTH)
    return None if b"%08x" % checksum == mark else "is damaged (its checksum does not match)"


def stored(path) -> bytes | None:
    """The checksum at the end of a file; None where there is none, so that the file is foreign or cut off."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LENGTH))
        mark = file.read()
    return mark[len(MARK) :] if mark.startswith(MARK) and len(mark) == LENGTH else None


def check(path):
    """Raise UserError where a file is not as it was sealed; a missing file is another's to complain of."""
    if Path(path).is_file() and (fault := broken_seal(path)):
        raise UserError(f"{path}: {fault}; delete it and make it again")


def _checksum(file, size) -> int:
    file.seek(0)
    check = 0
    while size and (piece := file.read(min(disk.PIECE, size))):
        check, size = zlib.crc32(piece, check), size - len(piece)
    return check


# ------------------------------------------------------------------------------------------------- reading
def structure(path, look: Callable[[Any], Any]) -> Any:
    """What ``look(file)`` finds in an HDF5 file, which has to be plain data; what it raises is raised here.

    ``look`` is a function of a module, or a partial of one: another process calls it.

    Raises ValueError where HDF5 breaks down on the file, or takes more than SECONDS of a processor.
    """
    return apart.call("HDF5", SECONDS, _looked, os.path.abspath(path), look)


def _looked(path, look):
    with h5py.File(path, "r") as file:
        return look(file)


def text(file, name: str) -> Any:
    """A text attribute; None where it is missing or no text. Reads nothing else: a list of texts could fill the memory."""
    if name not in file.attrs:
        return None
    attribute = file.attrs.get_id(name)
    value = file.attrs[name] if attribute.shape == () and h5py.check_string_dtype(attribute.dtype) else None
    return value if isinstance(value, str) else None


def numbers(file, name: str) -> Any:
    """An attribute of numbers, an array of any shape; None where it is missing or anything else."""
    if name not in file.attrs:
        return None
    attribute = file.attrs.get_id(name)
    plain = attribute.shape is not None and attribute.dtype.kind in "iuf" and math.prod(attribute.shape) <= MAX_NUMBERS
    return np.asarray(file.attrs[name]) if plain else None


def labels_fit(labels: np.ndarray, classes: int) -> bool:
    """Are labels (N) from 0 to ``classes`` - 1?"""
    return not len(labels) or (labels.min() >= 0 and labels.max() < classes)


def faults(file, names) -> list[str]:
    """What is wrong with fields that have to be contiguous data sets of this very file, a line each."""
    lines, size, declared = [], os.fstat(file.id.get_vfd_handle()).st_size, 0
    for name in names:
        link = file.get(name, getlink=True)
        if link is None:
            lines.append(f"field {name} is missing")
        elif not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
            lines.append(f"field {name} is not a data set of this file")
        elif file[name].external or file[name].is_virtual:
            lines.append(f"field {name} lies in another file")
        elif file[name].shape is None:
            lines.append(f"field {name} is empty")
        elif file[name].id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
            lines.append(f"field {name} is not stored in one piece")
        else:
            length, place = file[name].size * file[name].dtype.itemsize, file[name].id.get_offset()
            # All together, because fields that lie in one place could fill the memory.
            if length and (place is None or place + length > size or declared + length > size):
                lines.append(f"field {name} declares {file[name].shape}, more than the {size} bytes of the file")
            else:
                declared += length
    return lines


def places(file, names) -> dict[str, tuple]:
    """Where fields without ``faults`` lie, for ``mapped``: name -> (element type, shape, offset)."""
    return {name: (file[name].dtype, file[name].shape, file[name].id.get_offset() if file[name].size else 0) for name in names}


def copied(array: np.ndarray, rows) -> np.ndarray:
    """A copy of rows of a mapped field. ``rows``: a slice, or integers, by which numpy copies already."""
    return array[rows].copy() if isinstance(rows, slice) else array[rows]


def mapped(path, places: dict[str, tuple]) -> dict[str, np.ndarray]:
    """Fields as read-only arrays over a memory map of the file."""
    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return {
        name: np.frombuffer(content, kind, math.prod(shape), offset).reshape(shape)
        for name, (kind, shape, offset) in places.items()
    }
