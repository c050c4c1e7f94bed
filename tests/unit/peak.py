"""The most memory that this process, and the one in which it reads HDF5, come to hold in a block."""

import contextlib
import re
import resource
from pathlib import Path

from dfkd_steps.runtime import apart


@contextlib.contextmanager
def memory_at_most(more: int):
    """Raises AssertionError where either holds ``more`` kB above what it held before, for a moment or longer.

    Linux forgets its record of the most when it is told to, so that what other tests took does not hide what this one takes;
    elsewhere the record of the whole process has to do.
    """
    before = {pid: _forget(pid) for pid in _processes()}
    ended = _ended()
    yield
    # A worker that was started meanwhile began as a copy of this process.
    grown = [_most_of(pid) - before.get(pid, before["self"]) for pid in _processes()]
    assert max([*grown, _ended() - max(ended, before["self"])]) < more


def _processes() -> list[str]:
    worker = str(apart.WORKER.child)
    return ["self", *([worker] if _most_of(worker) else [])]


def _ended() -> int:
    """The most of the processes that this one started and that have ended, kB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def _forget(pid: str) -> int:
    """Let the most that a process held be what it holds now; kB."""
    if (record := Path(f"/proc/{pid}/clear_refs")).exists():
        record.write_text("5")
    return _most_of(pid)


def _most_of(pid: str) -> int:
    """kB; 0 of a process that is not there."""
    status = Path(f"/proc/{pid}/status")
    if not Path("/proc/self/status").exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if pid == "self" else 0
    match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(match[1]) if match else 0
