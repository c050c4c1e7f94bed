"""The start of ``python -m dfkd_steps.STEP``, before its modules are imported: what is said where memory is too small for
PyTorch, which else ends the process in its own words or, killed by the system, in none."""

import gc
import os
import sys

from . import limits, memory
from .commands import explain
from .errors import print_errors

PYTORCH = 300 << 20  # bytes that a process holds which has imported a step, and has done nothing
ADDRESSES = 6 << 30  # that suffice for PyTorch to start: its builds for GPUs reserve 3 to 4 GiB


def prepare(step: str, computes: bool):
    """Set this process up for the imports of a step. computes: they include PyTorch, so that what it takes has to be there.

    What torch makes on import, a million objects, stays: looking for garbage there takes a quarter of the import's time, so that
    none is looked for until ``runtime.commands.guarded``. What an import raises is said in a line, as of a step that runs.
    """
    gc.disable()
    sys.excepthook = lambda _, error, __: _end(step, error)
    if not computes:
        return
    if (left := memory.here()) < PYTORCH:
        remedy = "give the container or the batch job more (under Slurm mem_mb), or run fewer steps at once"
        print_errors(f"{step}: {_mib(left)} of memory are left here, but PyTorch takes {_mib(PYTORCH)} to start; {remedy}")
        sys.exit(2)
    if (left := limits.addresses()) < ADDRESSES:  # beyond it PyTorch may abort, which nothing can catch
        there = f"ulimit -v allows {_mib(left)} of addresses, of which PyTorch reserves up to {_mib(ADDRESSES)} to start"
        print(f"{step}: {there}; should that fail, unset it and set DFKD_MEMORY instead", file=sys.stderr)


def _mib(count: int) -> str:
    return f"{count >> 20:,} MiB"


def _end(step: str, error):
    if isinstance(error, Exception):
        code = print_errors(explain(step, error))
        sys.stdout.flush()
        os._exit(code)  # Python itself would end with 1
    sys.__excepthook__(type(error), error, error.__traceback__)
