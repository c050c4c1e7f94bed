"""The content of files that a config names: checkpoints, data sets, the code of a factory.

A field says by ``external=`` (schemas.fields) what kind of thing its value names. Contents are hashed once and remembered
by path, size and times (``remembered``).
"""

import ast
import contextlib
import hashlib
import importlib.util
import os
import stat
import time
from pathlib import Path

from ..models import names as network_names
from ..runtime import disk
from . import fingerprint, remembered

MISSING = "missing"
REMEMBERED = "hashes"
RACY_NS = 2_000_000_000  # a file changed so short a time ago may change again within one tick of its clock


def paths_of(kind: str, value: str) -> dict[str, Path]:
    """Name -> the files and folders whose content counts for a value of a field; a path that does not exist is among them too.

    The name is the path as the config gives it; that of a module does not say where its package is installed.
    """
    return KINDS[kind](value)


def _given(value) -> dict[str, Path]:
    return {str(Path(value)): Path(value)}


def _idx_files(value) -> dict[str, Path]:
    return {str(path): path for path in sorted(Path(value).glob("*-ubyte*"))} or _given(value)


def _factory_files(value) -> dict[str, Path]:
    """The source of ``package.module:function``, and of the modules beside it that it imports, and so on.

    Beside it: in the working directory, or of an installed package that package. Nothing of it is run here.
    """
    module = value.partition(":")[0]
    top = module.split(".")[0]
    root = _root_of(module, top)
    seen, todo = {}, [module]
    while todo:
        name = todo.pop()
        path = _source(root, name)
        if path is None or path in seen or (root != Path() and name.split(".")[0] != top):
            continue
        seen[path] = None
        parts = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        todo += [".".join(parts[:size]) for size in range(1, len(parts) + 1)]
        with contextlib.suppress(SyntaxError, ValueError):  # told when it is imported
            todo += fingerprint.imports(ast.parse(path.read_bytes()), parts)
    return {str(path.relative_to(root)): path for path in sorted(seen)} or _given(Path(*module.split(".")).with_suffix(".py"))


def _root_of(module, top) -> Path:
    """The folder in which an import finds a module of the package ``top``: any package with an __init__.py, or module, goes
    before folders without, of which there may be several; the working directory where there is none."""
    if _source(Path(), top):
        return Path()
    package = None
    with contextlib.suppress(ImportError, ValueError):
        package = importlib.util.find_spec(top)
    if package and package.origin and package.has_location:
        return Path(package.origin).parents[1 if package.submodule_search_locations else 0]
    folders = [Path(folder).parent for folder in (package and package.submodule_search_locations) or ()]
    return next((folder for folder in (Path(), *folders) if _source(folder, module)), Path())


def _source(root, name) -> Path | None:
    path = Path(root, *name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None) if name else None


def _network_files(value) -> dict[str, Path]:
    """Of a network's name the source of its factory; what a library builds goes by the library's version."""
    builder, name = network_names.split(value)
    return _factory_files(name) if builder == network_names.FACTORY else {}


KINDS = {
    "network": _network_files,
    "file": _given,
    "folder": _given,
    "idx": _idx_files,
    "factory": _factory_files,
}


# ---------------------------------------------------------------------------------------------- hashes
def digest(path: Path) -> str:
    """sha256 of a file's content, or of the names and contents of all files in a folder; ``missing`` where there is none."""
    try:
        names = sorted(_files_in(path)) if path.is_dir() else [""]
        stats = [os.stat(path / name) for name in names]
        if not all(stat.S_ISREG(status.st_mode) for status in stats):  # a pipe would be waited for
            return MISSING
        state = hashlib.sha256(repr([(name, *_state(status)) for name, status in zip(names, stats)]).encode()).hexdigest()
        place, known = os.path.abspath(path), remembered.entries(REMEMBERED)
        if known.get(place, [""])[0] == state:
            return known[place][1]
        sha256 = disk.sha256_of(path) if names == [""] else _listing(path, names)
    except OSError:
        return MISSING
    if all(max(status.st_mtime_ns, status.st_ctime_ns) < time.time_ns() - RACY_NS for status in stats):
        known[place] = [state, sha256]
        remembered.keep(REMEMBERED)
    return sha256


def _files_in(folder):
    """The files in a folder and below it, by their path in it; links are followed, as readers do."""
    for here, _, names in disk.walk(folder):
        yield from (os.path.relpath(os.path.join(here, name), folder) for name in names if name not in disk.LITTER)


def _state(status: os.stat_result) -> tuple:
    # The time of change too: a file that is replaced under its old time of modification is another.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _listing(folder, names) -> str:
    """Names count, and with them the classes of images; one that is no text is refused by who reads it."""
    listing = "".join(f"{name}\0{disk.sha256_of(folder / name)}\0" for name in names)
    return hashlib.sha256(os.fsencode(listing)).hexdigest()
