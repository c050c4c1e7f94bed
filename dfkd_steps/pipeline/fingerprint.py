"""Fingerprint of the code that computes an artefact: modules of this package, comments and docstrings left out."""

import ast
import functools
import hashlib
import os
import sys
from pathlib import Path

from .. import AT_START
from ..runtime.errors import UserError
from . import remembered

HERE = Path(__file__).parents[1]
# Folders and modules that decide whether a job runs, where, and what it says while it does; not what it computes. What
# the schemas decide is in the resolved config. A checkpoint decides how a run goes on, not where it arrives: it holds the
# key of the run, so that no other config or code goes on from it, and tests compare resumed runs with undisturbed ones.
NEUTRAL = {
    "pipeline",
    "schemas",
    "runtime.commands",
    "runtime.errors",
    "runtime.event_files",
    "runtime.gpu",
    "runtime.limits",
    "runtime.locks",
    "runtime.progress",
    "runtime.startup",
    "storage.atomic",
    "storage.checkpoint",
}
# A folder in a neutral one that counts: methods compute with what the functions of their configs say.
COUNTED = "schemas.transfer"
# Of a registry the functions count, but not its table: a new entry changes nothing that is there. The entry that a config
# chooses is in the recipe (``keys.recipe``).
TABLE = "REGISTRY"
# To read all modules takes half a second at each start of a driver: what was read is remembered by their content.
REMEMBERED, MOST = "code", 2000


def _file(module: str) -> Path | None:
    path = HERE.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def is_neutral(module: str) -> bool:
    """Does a module, or the folder that it lies in, count for nothing?"""
    return module in NEUTRAL or (module.split(".")[0] in NEUTRAL and not f"{module}.".startswith(f"{COUNTED}."))


def _tree(source: bytes) -> ast.Module:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                if ast.get_docstring(node, clean=False) is not None:
                    node.body = node.body[1:] or [ast.Pass()]
    return tree


def imports(tree: ast.Module, package: list[str]):
    """Dotted names of all that a module of ``package`` imports anywhere in it; of ``from a import b`` both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, *filter(None, [node.module])])
            yield target
            yield from (f"{target}.{alias.name}" for alias in node.names)


@functools.cache
def imports_of(module: str) -> set[str]:
    """The modules of this package, as dotted names below it, that ``module`` imports, in functions too."""
    return {name for name in _read(module)[1] if _file(name)}


@functools.cache
def modules(*roots: str) -> tuple[str, ...]:
    """The closure of modules that ``roots`` import, neutral ones left out; sorted."""
    seen, todo = set(), list(roots)
    while todo:
        module = todo.pop()
        if not module or module in seen or is_neutral(module) or not _file(module):
            continue
        seen.add(module)
        todo += [module.rpartition(".")[0], *imports_of(module)]  # the package's __init__ runs too
    return tuple(sorted(seen))


def _dump(node) -> str:
    """Like ``ast.dump`` without what is empty: that function's text differs between versions of Python."""
    if isinstance(node, ast.AST):
        inner = (f"{name}={_dump(value)}" for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(inner)})"
    return f"[{','.join(map(_dump, node))}]" if isinstance(node, list) else repr(node)


def _is_table(node) -> bool:
    """Is a statement the table of a registry, ``REGISTRY = {...}``, with or without an annotation?"""
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [getattr(target, "id", None) for target in targets] == [TABLE]


@functools.cache
def _read(module: str) -> list:
    """The hash of a module's code, and the names below this package that it imports: of modules, and of what is in them."""
    path = _file(module)
    if path is None:
        return ["", []]
    source, known, name = path.read_bytes(), remembered.entries(REMEMBERED), ""
    if reader := _reader():
        name = hashlib.sha256(b"\0".join([reader, module.encode(), path.name.encode(), source])).hexdigest()
        if name in known:
            return known[name]
    tree, parts = _tree(source), module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    imported = {dotted.partition(".")[2] for dotted in imports(tree, [HERE.name, *parts]) if dotted.split(".")[0] == HERE.name}
    code = [node for node in tree.body if not _is_table(node)]
    entry = [hashlib.sha256(_dump(code).encode()).hexdigest()[:8], sorted(imported - {""})]
    if name:
        known[name] = entry
    return entry


@functools.cache
def _reader() -> bytes:
    """Stands for all that decides, beside its source, what is read of a module: this file and Python. Empty where this file was
    changed since this process loaded it."""
    path = str(Path(__file__))
    return Path(path).read_bytes() + sys.version.encode() if AT_START.get(path) == os.stat(path).st_mtime_ns else b""


def hashes(*roots: str) -> dict[str, str]:
    """Module -> 8 hex digits, for all code reached from ``roots``; comments, docstrings and layout change none of them."""
    known = remembered.entries(REMEMBERED)
    before = len(known)
    digests = {module: _read(module)[0] for module in modules(*roots)}
    if len(known) > before:
        for name in list(known)[:-MOST]:
            del known[name]
        remembered.keep(REMEMBERED)
    return digests


def refuse_changed(code):
    """Raise UserError where the file of a module in ``code`` is not as it was when this process started.

    The process would compute with the code that it loaded, under the key of the code that lies there now.
    """
    for path in filter(None, map(_file, code)):
        stat = path.stat()
        if AT_START.get(str(path), stat.st_mtime_ns) != stat.st_mtime_ns:
            raise UserError(f"{path}: was changed while this step started; run it again")
