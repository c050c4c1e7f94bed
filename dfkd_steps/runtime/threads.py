"""How many threads a step computes with. Without torch, which the drivers need not load."""

import os

from .errors import UserError

MAX_THREADS = 1024


def thread_count() -> int:
    """CPU threads a step uses. A fixed number, not the machine's, because sums in another order give other bytes."""
    given = os.environ.get("DFKD_THREADS") or "1"
    if not given.isdecimal() or len(given) > 4 or not 1 <= int(given) <= MAX_THREADS:
        raise UserError(
            f"DFKD_THREADS: {given!r} is not a number of threads; set an integer from 1 to {MAX_THREADS}, or unset it"
        )
    return int(given)
