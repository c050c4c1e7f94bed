"""Rows of an HDF5 data set by number, in any order, without the set in memory.

h5py reads a list of scattered rows one selection at a time, hundreds of times slower than the disk. Here a row of an
uncompressed, chunked data set is what it is: bytes at a place in the file.
"""

import itertools
import os

import h5py
import numpy as np

from ..runtime.errors import UserError

GAP = 4096  # bytes; reading them and throwing them away costs less than another call


class Rows:
    """Reads rows of ``dataset``. What it holds is the place of each chunk; a foreign form of file is read through h5py."""

    def __init__(self, dataset: h5py.Dataset):
        self.dataset, self.shape, self.dtype = dataset, dataset.shape[1:], dataset.dtype
        self.width = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        self.places = _places(dataset)
        if self.places is not None:
            self.descriptor, self.chunk = dataset.file.id.get_vfd_handle(), dataset.chunks[0]

    def __call__(self, rows) -> np.ndarray:
        """The rows with these numbers (an integer array; unsorted, repeats allowed), as stored."""
        rows = np.asarray(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise TypeError(f"rows are {rows.dtype} of shape {rows.shape}, expected a list of whole numbers")
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self.dataset)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a field with {len(self.dataset)}")
        wanted, back = np.unique(rows.astype(np.int64), return_inverse=True)
        found = self.dataset[wanted] if self.places is None else self._read(wanted)
        return found if len(wanted) == len(rows) and (wanted == rows).all() else found[back]

    def _read(self, wanted) -> np.ndarray:
        """Sorted unique rows: a call for each run of rows that lie close together in one chunk."""
        found = np.empty((len(wanted), *self.shape), self.dtype)
        if not found.size:
            return found
        flat = found.reshape(len(wanted), -1).view(np.uint8)
        chunks = wanted // self.chunk
        starts = self.places[chunks] + wanted % self.chunk * self.width  # pyright: ignore[reportOptionalSubscript]
        apart = (np.diff(wanted) - 1) * self.width > GAP
        edges = [0, *(np.flatnonzero(apart | (np.diff(chunks) > 0)) + 1).tolist(), len(wanted)]
        for first, stop in itertools.pairwise(edges):
            span = int(wanted[stop - 1] - wanted[first]) + 1
            if span == stop - first:
                self._fill(flat[first:stop], int(starts[first]))
            else:
                run = np.empty((span, self.width), np.uint8)
                self._fill(run, int(starts[first]))
                flat[first:stop] = run[wanted[first:stop] - wanted[first]]
        return found

    def _fill(self, target, place):
        view, done = memoryview(target).cast("B"), 0
        while done < len(view):
            read = os.preadv(self.descriptor, [view[done:]], place + done)
            if not read:
                name = self.dataset.file.filename
                raise UserError(f"{name}: ends inside the field {self.dataset.name[1:]}; delete it and make it again")
            done += read


def _places(dataset) -> np.ndarray | None:
    """Where in the file each chunk begins; None where rows cannot be read there as they are (filters, no chunks, holes)."""
    plain = dataset.file.driver == "sec2" and not dataset.file.userblock_size and hasattr(dataset.id, "chunk_iter")
    if not plain or dataset.chunks is None or dataset.chunks[1:] != dataset.shape[1:]:
        return None
    if dataset.id.get_create_plist().get_nfilters() or not dataset.dtype.isnative or dataset.dtype.hasobject:
        return None
    places = np.full(-(-len(dataset) // dataset.chunks[0]), -1, np.int64)

    def note(info):
        number = info.chunk_offset[0] // dataset.chunks[0]
        if number < len(places) and info.byte_offset is not None:
            places[number] = info.byte_offset

    dataset.id.chunk_iter(note)
    return None if (places < 0).any() else places
