"""Fingerprint of the code that computes an artefact: modules of this package, comments and docstrings left out."""

import ast
import functools
import hashlib
from pathlib import Path

HERE = Path(__file__).parent
# These decide whether a job runs, where, and what it says while it does; not what it computes. What config and
# groups decide is in the resolved config, which is part of the key itself.
NEUTRAL = {
    "artefact", "audit", "cli", "code", "config", "errors", "fields", "gpu", "groups", "methods", "models",
    "pipeline", "progress", "resolve", "spec",
}  # fmt: skip


def _file(module: str) -> Path | None:
    path = HERE.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.lru_cache(maxsize=None)
def _tree(module: str) -> ast.Module:
    tree = ast.parse(_file(module).read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
            continue
        if isinstance(getattr(body[0], "value", None), ast.Constant) and isinstance(body[0].value.value, str):
            node.body = body[1:] or [ast.Pass()]
    return tree


def _imports(module: str):
    """Modules of this package that ``module`` imports, as dotted names below the package."""
    package = [] if _file(module).name == "__init__.py" and "." not in module else module.split(".")[:-1]
    if _file(module).name == "__init__.py":
        package = module.split(".")
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


@functools.lru_cache(maxsize=None)
def modules(*roots: str) -> tuple[str, ...]:
    """The closure of modules that ``roots`` import, neutral ones left out; sorted."""
    seen, todo = set(), list(roots)
    while todo:
        module = todo.pop()
        if module in seen or module in NEUTRAL or not _file(module):
            continue
        seen.add(module)
        todo += _imports(module)
    return tuple(sorted(seen))


@functools.lru_cache(maxsize=None)
def fingerprint(*roots: str) -> str:
    """16 hex digits that change when code reached from ``roots`` changes, and not when only its comments do."""
    digest = hashlib.sha256()
    for module in modules(*roots):
        digest.update(f"{module}\0{ast.dump(_tree(module))}\0".encode())
    return digest.hexdigest()[:16]
