"""The entry of each command: its arguments, and one line for whatever it raises."""

import errno
import gc
import math
import os
import re
import sys
import tempfile
import traceback
from importlib import metadata
from pathlib import Path

from . import limits
from .errors import UserError, errno_of, is_out_of_memory, one_line, print_errors, require_file

FAULTS = "logs/faults"
FREE = "free disk space or correct the permissions, then run again"
REMEDIES = {
    "correct the path": {
        errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EEXIST, errno.EINVAL,
    },
    "use a file system that has locks (flock), or mount it with them": {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS},
    "check the disk or its server, then run again": {errno.EIO, errno.ESTALE},
}  # fmt: skip


def guarded(name: str, work) -> int:
    """The exit code of the command ``name``: what ``work()`` returns (None = 0), or 2 after a line for each error.

    What is neither bad input nor an error of the system is a fault of this program: its traceback goes into a file. A
    KeyboardInterrupt stays itself.
    """
    if not (gc.isenabled() and gc.get_freeze_count()):  # what was imported is for good; what came of work since may be garbage
        gc.freeze()
    gc.enable()
    try:
        code = work() or 0
        if sys.stdout:  # None where the caller closed it
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        return print_errors(explain(name, error))


def explain(name: str, error: Exception) -> str:
    """What to say of an error that ends the command ``name``: a line for each fault, with its remedy."""
    if isinstance(error, UserError):
        return str(error)
    place = getattr(error, "filename", None) or (sys.argv[1] if len(sys.argv) > 1 else name)
    if is_out_of_memory(error):
        request = re.search(r"(?:you tried to allocate|requested buffer of size) (\d+)", str(error))
        what = f"{int(request[1]) / (1 << 20):,.0f} MiB more were needed" if request else one_line(error)
        return f"{place}: memory ran out ({what}); {_for_memory(place)}, or use a machine with more"
    if isinstance(error, FloatingPointError):
        return f"{place}: {one_line(error)}; train with a smaller learning rate or smaller loss weights"
    if number := errno_of(error):
        remedy = next((remedy for remedy, numbers in REMEDIES.items() if number in numbers), FREE)
        return f"{place}: {os.strerror(number)}; {remedy}"
    if "inline_container" in str(error):  # PyTorch's writer gives no number
        return f"{place}: cannot be written; {FREE}"
    return f"{name}: {type(error).__name__}: {one_line(error)} (a bug in dfkd; log: {_log(name, error)})"


def _for_memory(place) -> str:
    """What to do where memory runs out in the step that makes the file at ``place``: some have no batch to make smaller."""
    if (addresses := limits.addresses()) < math.inf:
        return f"raise or unset `ulimit -v` (now {addresses / (1 << 30):.3g} GiB, of which PyTorch reserves more than it uses)"
    limit = os.environ.get("DFKD_MEMORY")
    more = f"raise DFKD_MEMORY (now {limit} GiB)" if limit else "set DFKD_MEMORY (docs/image-size.md)"
    less = {"metrics.json": "", "export.json": "", "teacher.safetensors": "use a smaller batch if it is trained here, "}
    return less.get(os.path.basename(place), "use a smaller batch or fewer samples, ") + more


def _log(name, error) -> str:
    """The file that holds the traceback of an error, beside the other logs or where there is room."""
    for folder in (FAULTS, tempfile.gettempdir()):
        try:
            os.makedirs(folder, exist_ok=True)
            number, path = tempfile.mkstemp(".log", f"{name}-", folder)
            with open(number, "w", errors="backslashreplace") as file:
                traceback.print_exception(error, file=file)
            return os.path.join(folder, os.path.basename(path))
        except OSError:
            continue
    return "none could be written"


def version() -> str:
    """The version of the installed package; a checkout that is not installed has none."""
    try:
        return metadata.version("dfkd")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def expanded(arguments: list[str]) -> list[str]:
    """The arguments of a command, @FILE replaced by the arguments in that file, one a line."""
    lines = []
    for argument in arguments:
        if not argument.startswith("@"):
            lines.append(argument)
            continue
        path = Path(argument[1:])
        require_file(path)
        try:
            lines += path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            raise UserError(f"{path}: is not text; give a file with one path per line") from None
    return lines
