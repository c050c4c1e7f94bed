"""The limits of this process: addresses (``ulimit -v``), which batch systems set too and of which PyTorch reserves far more than
it uses, and the bound of its own memory (``memory.bound``)."""

import math
import re
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLOSE = 64 << 20  # bytes below the bound at which an allocation may have failed


def addresses() -> float:
    """Bytes of addresses that a process may reserve; infinity where there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if soft == resource.RLIM_INFINITY else soft


def is_reached() -> bool:
    """Does this process hold all that its bound allows, or nearly so (Linux)? What it lets go stays with it."""
    soft = resource.getrlimit(resource.RLIMIT_DATA)[0]
    return soft != resource.RLIM_INFINITY and (_status("VmData") or 0) > soft - CLOSE


def peak() -> int:
    """The most bytes of memory that this process has held at once, with the pages of files that it had mapped."""
    # Linux hands ru_maxrss on to a process from the one that started it.
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(name: str) -> int | None:
    """A number of bytes that Linux tells of this process."""
    row = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE) if STATUS.exists() else None
    return int(row[1]) << 10 if row else None
