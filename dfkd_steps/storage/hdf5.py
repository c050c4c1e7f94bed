"""HDF5 artefacts: written so that a full disk is an error, sealed with a checksum, and looked at before they are read.

HDF5 keeps no checksums where rows are to be read straight from the file (a filter would be in the way), and a changed bit
in its own structures can bring the library down. So a checksum stands behind what the library reads: it passes over that.
"""

import contextlib
import math
import os
import zlib
from pathlib import Path

import h5py
import numpy as np

from ..runtime.errors import UserError

MARK, DIGITS = b"dfkd crc32 ", 8
LENGTH = len(MARK) + DIGITS
PIECE = 1 << 22
ATTRIBUTES, ENTRY = 1 << 16, 256  # bytes that HDF5 itself needs at most: in all, and for each chunk
# Reading a file takes no more memory than a few chunks; a foreign one may declare any size.
MAX_CHUNK_BYTES = 1 << 30


# ------------------------------------------------------------------------------------------------- writing
@contextlib.contextmanager
def create(path, fields: dict[str, tuple]):
    """A new file to fill and its fields by name; ``fields``: name -> (shape, element type, rows of a chunk). Sealed at the end.

    Whether there is room is asked first: HDF5 that runs out of it prints tracebacks when it gives up its caches.
    """
    room = ATTRIBUTES
    for shape, kind, chunk in fields.values():
        room += -(-shape[0] // chunk) * (chunk * math.prod(shape[1:]) * np.dtype(kind).itemsize + ENTRY)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, room)
    with h5py.File(path, "w") as file:
        made = {name: Field(file, name, *how) for name, how in fields.items()}
        yield file, made
        for field in made.values():
            field.finish()
        file.flush()  # closing alone would not always tell
    seal(path)


class Field:
    """A data set that is written in order, a chunk at a time and past HDF5's cache, so that a failed write is told at once."""

    def __init__(self, file, name, shape, kind, chunk):
        places = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        # All chunks get their place now, one after the other, so that it does not depend on the order of writing.
        places.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        places.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        self.data = file.create_dataset(name, shape, kind, chunks=(chunk, *shape[1:]), track_times=False, dcpl=places)
        self.chunk, self.place, self.filled = np.zeros(self.data.chunks, kind), 0, 0

    def append(self, values):
        """Add rows, any number."""
        while len(values):
            part = values[: len(self.chunk) - self.filled]
            self.chunk[self.filled : self.filled + len(part)] = part
            self.filled, values = self.filled + len(part), values[len(part) :]
            if self.filled == len(self.chunk):
                self._write()

    def finish(self):
        """Write the last chunk, which need not be full."""
        if self.filled:
            self.chunk[self.filled :] = 0
            self._write()

    def _write(self):
        self.data.id.write_direct_chunk((self.place, *(0,) * (self.chunk.ndim - 1)), self.chunk)
        self.place, self.filled = self.place + len(self.chunk), 0


# ------------------------------------------------------------------------------------------------- checksum
def seal(path):
    """Append the checksum of all of a finished file to it."""
    with open(path, "r+b") as file:
        size = file.seek(0, 2)
        check = _checksum(file, size)
        file.seek(size)
        file.write(MARK + b"%08x" % check)


def broken_seal(path) -> str | None:
    """Why a file is not as it was sealed, or None where it is. Reads all of it."""
    mark = stored(path)
    if mark is None:
        return "is damaged or cut off (no checksum at its end)"
    with open(path, "rb") as file:
        found = _checksum(file, file.seek(0, 2) - LENGTH)
    return None if b"%08x" % found == mark else "is damaged (its checksum is another)"


def stored(path) -> bytes | None:
    """The checksum at the end of a file; None where there is none, so that the file is foreign or cut off."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - LENGTH))
        mark = file.read()
    return mark[len(MARK) :] if mark.startswith(MARK) and len(mark) == LENGTH else None


def check(path):
    """Raise UserError where a file is not as it was sealed; a missing file is another's to complain of."""
    if Path(path).is_file() and (found := broken_seal(path)):
        raise UserError(f"{path}: {found}; delete it and make it again")


def _checksum(file, size) -> int:
    file.seek(0)
    check = 0
    while size and (piece := file.read(min(PIECE, size))):
        check, size = zlib.crc32(piece, check), size - len(piece)
    return check


# ------------------------------------------------------------------------------------------------- looking
def faults(file, names) -> list[str]:
    """What is wrong with fields that have to be data sets of this very file, a line each."""
    found = []
    for name in names:
        link = file.get(name, getlink=True)
        if link is None:
            found.append(f"field {name} is missing")
        elif not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
            found.append(f"field {name} is no data set of this file")
        elif file[name].external or file[name].is_virtual:
            found.append(f"field {name} lies in another file")
        elif file[name].shape is None:
            found.append(f"field {name} is empty")
    return found


def chunk_fault(field) -> str | None:
    """Why a field cannot be read a few whole samples at a time, or declares more than there is; None where it is sound."""
    if field.chunks is None or field.chunks[1:] != field.shape[1:]:
        return f"is not chunked by whole samples (chunks {field.chunks})"
    if math.prod(field.chunks) * field.dtype.itemsize > MAX_CHUNK_BYTES:
        return f"has chunks of {field.chunks}, more than {MAX_CHUNK_BYTES >> 20} MiB each"
    if (there := field.id.get_num_chunks()) < (whole := -(-len(field) // field.chunks[0])):
        return f"declares {len(field)} samples, but only {there} of {whole} chunks are there"
    return None
