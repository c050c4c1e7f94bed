"""Large arrays and files, a piece at a time; and room on a disk, asked for before anything is written to it."""

import errno
import hashlib
import os
import tempfile
from pathlib import Path

LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # file managers leave these behind; no reader of images takes them
PIECE = 1 << 22  # bytes that are read or written at once
ROOM = 1 << 16  # bytes that a workflow writes of its own, at least


def rows_of_a_piece(width: int) -> int:
    """How many rows of ``width`` bytes are read at once."""
    return max(1, PIECE // max(1, width))


def pieces(array):
    """The rows of an array in order, a few MB at a time: of one on the disk, whose whole may be larger than the memory."""
    step = rows_of_a_piece(array.nbytes // max(1, len(array)))
    return (array[start : start + step] for start in range(0, len(array), step))


def walk(folder):
    """``os.walk`` through links too, but those that lead back to a folder above them; in order of the names."""
    for here, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not _is_loop(here, name))
        yield here, folders, sorted(names)


def _is_loop(here, name) -> bool:
    path = os.path.join(here, name)
    return os.path.islink(path) and any(os.path.samefile(path, above) for above in (here, *Path(here).absolute().parents))


def sha256_of(path) -> str:
    """sha256 of a file's content, as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_room(folder):
    """Raise OSError where nothing can be written to a folder for want of room."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(error.errno, error.strerror, str(folder)) from None


def allocate(file, size: int):
    """Give a file of no content ``size`` bytes of the disk, or raise OSError where there is no room."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, PIECE):  # macOS
        write_at(file, start, bytes(min(PIECE, size - start)))


def write_at(file, place: int, content):
    """Write all of ``content`` from byte ``place`` on."""
    view, done = memoryview(content), 0
    while done < len(view):
        done += os.pwrite(file.fileno(), view[done:], place + done)
