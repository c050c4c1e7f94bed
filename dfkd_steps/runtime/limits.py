"""The limits of this process: addresses (``ulimit -v``), which batch systems set too and of which PyTorch reserves far more than
it uses, and the bound of its own memory (``memory.bound``)."""

import math
import re
import resource
from pathlib import Path

CLOSE = 64 << 20  # bytes below the bound at which an allocation may have failed


def addresses() -> float:
    """Bytes of addresses that a process may reserve; infinity where there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if soft == resource.RLIM_INFINITY else soft


def is_reached() -> bool:
    """Does this process hold all that its bound allows, or nearly so (Linux)? What it lets go stays with it."""
    soft, status = resource.getrlimit(resource.RLIMIT_DATA)[0], Path("/proc/self/status")
    if soft == resource.RLIM_INFINITY or not status.exists():
        return False
    return (int(re.search(r"VmData:\s+(\d+) kB", status.read_text())[1]) << 10) > soft - CLOSE
