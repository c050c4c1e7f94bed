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
        print(f"{waiting} (lock {path}{_holder(path)})", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        # While it is held: who waits for it sees that it has no name any more, and makes another.
        Path(path).unlink(missing_ok=True)
        lock.release()


def _holder(path) -> str:
    """Who holds a lock on a file system that has none of its own: there the file stays after a process that was killed, and is
    known to be left over on the host of that process alone."""
    with contextlib.suppress(OSError, ValueError):
        process, host = Path(path).read_text("utf-8").split()[:2]
        return f" of process {int(process)} on {host}; delete it if that process is gone"
    return ""
