"""The one exception that means: the user can correct this."""

import contextlib
import difflib
import errno
import math
import os
import re
import sys
from pathlib import Path

from . import limits, progress

OF_THE_SYSTEM = {errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE}
# Of PyTorch's allocator, of its memory maps, and of onnxruntime.
OUT_OF_MEMORY = ("can't allocate memory", os.strerror(errno.ENOMEM), "Failed to allocate memory")
# Of oneDNN, whatever it has failed for.
PERHAPS_OUT_OF_MEMORY = ("could not create a primitive", "could not create a memory", "could not execute a primitive")
AGAIN = "delete it and make it again"


class UserError(ValueError):
    """Bad input. The message is one line or one line per fault: place, value, remedy.

    A step prints it without a traceback and exits with code 2.
    """


class Changed(UserError):
    """What a step reads was changed under way, so that what it has made so far is of nobody knows what."""


def require_file(path):
    """Raise UserError where there is no such file, or where it may not be read: that does not make it damaged."""
    name = printable(str(path))  # a line of its own in it would pass for one of ours
    try:
        if not Path(path).is_file():
            if Path(path).exists():  # a folder, or a pipe, which would be waited for
                raise UserError(f"{name}: is not a regular file; remove it and make the file again")
            made_by_steps = "/results/" in os.path.abspath(path)
            remedy = f"make it first (snakemake {name})" if made_by_steps else "correct the path"
            raise UserError(f"{name}: no such file; {remedy}")
        open(path, "rb").close()
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror}); correct its permissions") from None


@contextlib.contextmanager
def reading(path, fault="is damaged", remedy=AGAIN):
    """Whatever a reader raises for a broken or foreign file becomes a UserError, a line ``PATH: FAULT (why); REMEDY``.

    An error of the system (no permission, too many files, no memory) does not make a file damaged.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) and str(path) in str(error):
            raise
        number = errno_of(error)
        if is_of_the_system(error):
            why = os.strerror(number) if number else "memory ran out"
            raise UserError(f"{path}: cannot be read ({why}); correct that, the file may be intact") from None
        raise UserError(f"{path}: {fault} ({one_line(error, 140)}); {remedy}") from None


def remedy_for(path, *names: str) -> str:
    """What to do about a file that is not what its reader takes. ``names``: those of the files that it takes.

    Where a step writes such a file, the file is damaged and can be made again; elsewhere it may be somebody's own data.
    """
    path = os.path.abspath(path)
    _, inside, below = path.rpartition("/results/")
    if inside and (os.path.basename(path) in names or "/." in below):  # hidden: a shard or a working file
        return AGAIN
    return f"give a {' or '.join(names)} written by dfkd"


def print_errors(error) -> int:
    """Print each fault as one line ``error: ...``; returns the exit code 2."""
    for line in str(error).split("\n"):
        text = f"error: {printable(line)}"
        try:
            print(text, file=sys.stderr, flush=True)
        except OSError:  # the log lies on the disk that is full
            progress.tell(text)
    return 2


def errno_of(error) -> int | None:
    """The number of an error of the operating system (no room, no permission), None for any other error.

    HDF5 and safetensors give it inside their text; others raise an error of their own from it, like the exporter to ONNX.
    """
    number = getattr(error, "errno", None) or next(iter(re.findall(r"(?:errno = |os error )(\d+)", str(error))), None)
    if not number and error.__cause__:
        return errno_of(error.__cause__)
    return int(number) if number else None


def is_out_of_memory(error) -> bool:
    """Did a computation end for want of memory, of the machine or of the GPU?"""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or errno_of(error) == errno.ENOMEM
    if named or any(text in str(error) for text in OUT_OF_MEMORY):
        return True
    if any(text in str(error) for text in PERHAPS_OUT_OF_MEMORY) and limits.is_reached():
        return True
    if isinstance(error, ImportError) and "failed to map segment" in str(error) and limits.addresses() < math.inf:
        return True  # else the file system may be mounted noexec
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def is_of_the_system(error) -> bool:
    """Does an error say nothing of a file that was read: no memory, no permission, too many open files?"""
    return is_out_of_memory(error) or errno_of(error) in OF_THE_SYSTEM


def let_through(error):
    """Raise an error of the system again, which says nothing against the network or the code that ran into it."""
    if is_of_the_system(error):
        raise error


def printable(text: str) -> str:
    """A text with what a terminal would obey written as an escape."""
    return text if text.isprintable() else ascii(text)[1:-1]


def one_line(error, limit: int = 100) -> str:
    """What an error says, as a single line of at most ``limit`` characters."""
    return printable(" ".join(str(error).split()))[:limit] or type(error).__name__


def first_of(names, most: int) -> str:
    """Names for a line: the first ``most`` of them, and dots where there are more."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def suggest(name: str, known) -> str:
    """What to write instead of an unknown name: the most similar known name, and the known ones."""
    if not known:
        return "none exists yet"
    close = difflib.get_close_matches(name[:100], known, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"known: {similar(name, known)}"


def similar(name: str, known, limit: int = 12) -> str:
    """The known names; of more than ``limit`` those that are most like ``name``, and the number of the others."""
    if len(known) <= limit:
        return ", ".join(known)
    return f"{', '.join(difflib.get_close_matches(name[:100], known, n=limit, cutoff=0.0))} and {len(known) - limit} more"
