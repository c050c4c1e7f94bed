"""A limit of addresses (``ulimit -v``), which batch systems set too: PyTorch reserves far more of them than it uses."""

import math
import resource


def addresses() -> float:
    """Bytes of addresses that a process may reserve; infinity where there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if soft == resource.RLIM_INFINITY else soft
