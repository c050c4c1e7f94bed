"""A lock by file, for processes of one user: the kernel lets go of it however its holder ends."""

import contextlib
import sys
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def locked(path, waiting: str):
    """Hold the lock file ``path``, which goes away afterwards; ``waiting`` is said where another process holds it."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(waiting, file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        # While it is held: who waits for it sees that it has no name any more, and makes another.
        Path(path).unlink(missing_ok=True)
        lock.release()
