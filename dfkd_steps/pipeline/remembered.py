"""What was found out about files, remembered in the user's cache folder from process to process: entries, a name and a pair each.

Not in the working directory: asking for a key writes nothing there. An entry's name or pair says for which content it holds.
Processes may overwrite each other's entries: what is lost is found out again.
"""

import contextlib
import functools
import json
import os
import tempfile
from pathlib import Path


def path_of(kind: str) -> Path:
    """The file that holds the entries of a kind."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "dfkd", f"{kind}.json")


@functools.cache
def entries(kind: str) -> dict[str, list]:
    """The entries of a kind, of this process and those before it; add to them, then ``keep``."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        content = json.loads(path_of(kind).read_text("utf-8"))
        if isinstance(content, dict) and all(isinstance(entry, list) and len(entry) == 2 for entry in content.values()):
            return content
    return {}


def keep(kind: str):
    """Write the entries of a kind down."""
    with contextlib.suppress(OSError, RuntimeError):  # no home, no room, no permission: it is found out again next time
        target = path_of(kind)
        target.parent.mkdir(parents=True, exist_ok=True)
        number, beside = tempfile.mkstemp(dir=target.parent)
        with open(number, "w") as file:
            json.dump(entries(kind), file)
        os.replace(beside, target)
