"""Whether this process still reads a file through a memory map."""

from pathlib import Path

MAPS = Path("/proc/self/maps")  # of Linux; elsewhere nothing is seen


def is_mapped(path) -> bool:
    """Is the file at ``path`` mapped?"""
    return MAPS.exists() and str(path) in MAPS.read_text()
