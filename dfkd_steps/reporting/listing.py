"""What there is, a line each: methods, models, views, config fields and files in params/; for `dfkd list`.

Heavy imports stand in the functions that need them, so that ``dfkd --help`` answers at once.
"""

import ast
import contextlib
import functools
import itertools
from pathlib import Path

from ..runtime.errors import UserError

PACKAGE = Path(__file__).parents[1]
SIDES = (28, 32, 64, 224)  # of images that architectures are tried on, pixels


def table(rows, head=None):
    """Print rows of text in aligned columns; what a terminal would obey is printed as an escape."""
    rows = [[cell if cell.isprintable() else repr(cell) for cell in row] for row in ([head] if head else []) + list(rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip())


def headline(module: str) -> str:
    """The first line of a module's docstring, read without importing it (and torch with it)."""
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return doc.split("\n", 1)[0]


def comment(path) -> str:
    """The first sentence of the comment that a YAML file begins with."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), Path(path).read_text("utf-8").splitlines())
    return " ".join(line.lstrip("# ") for line in lines).partition(". ")[0].removesuffix(".")


def list_group(group: str):
    """Each file of a group in params/, its kind, and what it is."""
    from ..pipeline import params

    rows = [(name, params.kind_of(group, name), comment(params.path_of(group, name))) for name in params.names(group)]
    table(rows, (group.upper(), params.KIND_KEY.get(group, "").upper(), "DESCRIPTION"))


def list_methods():
    """Each method, the params files that use it, and what it is."""
    from ..methods import registry as method_registry
    from ..pipeline import params

    files = {}
    for name in params.names("transfer"):
        files.setdefault(params.kind_of("transfer", name), []).append(name)
    rows = [
        (name, ", ".join(files.get(name, ["-"])), headline(method_registry.module_of(name)))
        for name in sorted(method_registry.REGISTRY)
    ]
    table(rows, ("METHOD", "PARAMS/TRANSFER", "DESCRIPTION"))


def list_models():
    """Each architecture, its size, and what it is."""
    import torch

    from ..models import registry as model_registry
    from ..models.classifier import build_architecture

    def built(name, side):
        with contextlib.suppress(UserError), torch.device("meta"):  # shapes without memory
            return build_architecture(name, 10, (3, side, side))

    rows = []
    for name in model_registry.names():
        taken = {side: net for side in SIDES if (net := built(name, side))}  # none where its library is not installed
        size = f"{sum(value.numel() for value in taken[32].parameters()):,}" if 32 in taken else "-"
        sides = "all" if len(taken) == len(SIDES) else ", ".join(map(str, taken)) or "-"
        rows.append((name, model_registry.task_of(name), f"{size:>14}", sides, headline(model_registry.module_of(name))))
    table(rows, ("ARCHITECTURE", "TASK", "PARAMETERS (1)", "SIDES (2)", "DESCRIPTION"))
    print(f"\n(1) for 10 classes and images of 3x32x32\n(2) of {', '.join(map(str, SIDES))} pixels, those that it supports")


def list_views():
    """Each augmentation that a student can be taught on, and those that methods have besides."""
    from ..schemas import choices, fields, groups

    of_students = groups.Student.__dataclass_fields__
    for key in ("augment", "mix"):
        item = of_students[key]
        table([(f"{key}: {name}",) for name in fields.choices(item)], (f"{key.upper()} ({item.metadata['doc']})",))
        print()
    known = fields.choices(of_students["augment"])
    further = [(f"view: {name}",) for name in choices.VIEWS if name not in known]
    table(further, ("VIEW, VIEW_S (of methods: those of augment, and these)",))


def list_losses():
    """Each loss that a student can learn by, with what its function computes, read without importing it."""
    from ..schemas import student_losses

    rows = []
    for name, (module, function, _) in student_losses.REGISTRY.items():
        tree = ast.parse((PACKAGE / f"training/{module}.py").read_text("utf-8"))
        definition = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
        rows.append((name, f"training.{module}.{function}", (ast.get_docstring(definition) or "").split("\n", 1)[0]))
    table(rows, ("LOSS", "FUNCTION", "DESCRIPTION"))
    print("\nor your own: loss: factory.MODULE.FUNCTION (docs/contributing.md)")


def list_fields():
    """Every config field, as in docs/config.md."""
    from . import config_reference

    print(config_reference.tables(), end="")


LISTS = {
    "balance": functools.partial(list_group, "balance"),
    "methods": list_methods,
    "views": list_views,
    "losses": list_losses,
    "models": list_models,
    "fields": list_fields,
    "datasets": functools.partial(list_group, "dataset"),
    "teachers": functools.partial(list_group, "teacher"),
    "transfers": functools.partial(list_group, "transfer"),
    "students": functools.partial(list_group, "student"),
}
