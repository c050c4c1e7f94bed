"""Fingerprint of the code that computes an artefact: modules of this package, comments and docstrings left out."""

import ast
import functools
import hashlib
from pathlib import Path

HERE = Path(__file__).parents[1]
# Folders and modules that decide whether a job runs, where, and what it says while it does; not what it computes. What
# the schemas decide is in the resolved config, and the chosen line of a registry in the key: ``keys.code_of``.
NEUTRAL = {
    "pipeline", "schemas", "runtime.errors", "runtime.gpu", "runtime.progress", "storage.atomic",
    "methods.registry", "models.registry", "procedural.registry",
}  # fmt: skip


def _file(module: str) -> Path | None:
    path = HERE.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def is_neutral(module: str) -> bool:
    """Does a module, or the folder that it lies in, count for nothing?"""
    return module in NEUTRAL or module.split(".")[0] in NEUTRAL


@functools.cache
def _tree(module: str) -> ast.Module:
    tree = ast.parse(_file(module).read_text("utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
            continue
        if isinstance(getattr(body[0], "value", None), ast.Constant) and isinstance(body[0].value.value, str):
            node.body = body[1:] or [ast.Pass()]
    return tree


def _imports(module: str):
    """Modules of this package that ``module`` imports, as dotted names below the package."""
    package = module.split(".") if _file(module).name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith(HERE.name + "."):
                    yield alias.name.split(".", 1)[1]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
            elif (node.module or "").split(".")[0] == HERE.name:
                base = []
            else:
                continue
            inner = (node.module or "").split(".") if node.level else node.module.split(".")[1:]
            target = ".".join([*base, *filter(None, inner)])
            if target and _file(target):
                yield target
            for alias in node.names:
                yield ".".join(filter(None, [target, alias.name]))


@functools.cache
def modules(*roots: str) -> tuple[str, ...]:
    """The closure of modules that ``roots`` import, neutral ones left out; sorted."""
    seen, todo = set(), list(roots)
    while todo:
        module = todo.pop()
        if not module or module in seen or is_neutral(module) or not _file(module):
            continue
        seen.add(module)
        todo += [module.rpartition(".")[0], *_imports(module)]  # the package's __init__ runs too
    return tuple(sorted(seen))


def _dump(node) -> str:
    """Like ``ast.dump`` without what is empty: that function's text differs between versions of Python."""
    if isinstance(node, ast.AST):
        inner = (f"{name}={_dump(value)}" for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(inner)})"
    return f"[{','.join(map(_dump, node))}]" if isinstance(node, list) else repr(node)


@functools.cache
def fingerprint(*roots: str, salt: str = "") -> str:
    """16 hex digits that change when code reached from ``roots`` changes, and not when only its comments do.

    ``salt``: what else counts as code, like the arguments that a registry gives to a module.
    """
    digest = hashlib.sha256(salt.encode())
    for module in modules(*roots):
        digest.update(f"{module}\0{_dump(_tree(module))}\0".encode())
    return digest.hexdigest()[:16]
