"""The one exception that means: the user can mend this."""

import difflib
import os
import re
import sys
from pathlib import Path


class UserError(ValueError):
    """Bad input. The message is one line or one line per fault: place, value, remedy.

    A step prints it without a traceback and exits with code 2.
    """


def require_file(path):
    """Raise UserError where there is no such file, or where it may not be read: that does not make it damaged."""
    try:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; make it first (snakemake {path})")
        open(path, "rb").close()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend its permissions") from None


def print_errors(error) -> int:
    """Print each fault as one line ``error: ...``; returns the exit code 2."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr, flush=True)
    return 2


def os_error_text(error) -> str | None:
    """What the operating system said where an error is its own (no room, no permission), else None.

    HDF5 and safetensors give its number inside their text; PyTorch's writer gives none.
    """
    told = getattr(error, "errno", None) or next(iter(re.findall(r"(?:errno = |os error )(\d+)", str(error))), None)
    if told:
        return os.strerror(int(told))
    return "cannot be written" if "inline_container" in str(error) else None


# What h5py, json and zip readers raise for a broken or foreign file.
CORRUPT_FILE_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    EOFError,
    MemoryError,
)


def one_line(error, limit: int = 100) -> str:
    """What an error says, as a single line of at most ``limit`` characters."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def suggest(name: str, known) -> str:
    """What to write in place of an unknown name: the one that is most like it, and the known ones."""
    if not known:
        return "there is none yet"
    close = difflib.get_close_matches(name[:100], known, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"known: {similar(name, known)}"


def similar(name: str, known, limit: int = 12) -> str:
    """The known names; of more than ``limit`` those that are most like ``name``, and the number of the others."""
    if len(known) <= limit:
        return ", ".join(known)
    return f"{', '.join(difflib.get_close_matches(name[:100], known, n=limit, cutoff=0.0))} and {len(known) - limit} more"
