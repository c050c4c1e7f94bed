"""Room on a disk, asked for before anything is written to it."""

import os

PIECE = 1 << 22  # bytes that are written at once


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
