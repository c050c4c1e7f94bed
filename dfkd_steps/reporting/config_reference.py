"""What config fields there are: tables for `dfkd spec`, `dfkd list fields` and docs/config.md.

python -m dfkd_steps.reporting.config_reference docs/config.md      rewrite the tables below the marker in that file
"""

import dataclasses
import sys
import typing
from pathlib import Path

from omegaconf import MISSING

from ..pipeline import params, spec
from ..schemas import fields

MARKER = "<!-- Below: written by `python -m dfkd_steps.reporting.config_reference docs/config.md`. -->\n"
HEAD = ("key", "type", "default", "allowed", "meaning")


def type_name(kind) -> str:
    """The type as a person calls it."""
    return f"list of {typing.get_args(kind)[0].__name__}" if typing.get_origin(kind) is list else kind.__name__


def yaml_text(value) -> str:
    """A value as YAML would have it, '' as two quotes."""
    if isinstance(value, list):
        return f"[{', '.join(map(yaml_text, value))}]"
    return params.spelling(value) or "''"


def default_of(item: dataclasses.Field):
    """The default of a field; MISSING where the YAML file must give it."""
    return item.default_factory() if item.default is dataclasses.MISSING else item.default


def rows(items):
    """The fields as rows under ``HEAD``."""
    for item in items:
        default = default_of(item)
        default = "required" if default == MISSING else yaml_text(default)
        yield item.name, type_name(item.type), default, fields.span(item), item.metadata["doc"]


def markdown(items) -> list[str]:
    """A table of fields."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows(items)]


def tables() -> str:
    """All fields of all kinds of all groups, as Markdown; what all kinds of a group have in common comes first."""
    lines = []
    for group in spec.GROUPS:
        classes = {kind: _fields(group, kind) for kind in params.kinds(group)}
        first = next(iter(classes.values()))
        key = params.KIND_KEY.get(group)
        common = [
            item for name, item in first.items()
            if name != key and all(name in members and _same(item, members[name]) for members in classes.values())
        ]  # fmt: skip
        lines += ["", f"## {group}", ""]
        if key:
            lines += [f"`{key}` is one of {', '.join(f'`{kind}`' for kind in classes)}.", ""]
        if common:
            lines += ["Keys of all kinds:", ""] if key else []
            lines += markdown(common)
        for kind, members in classes.items():
            if key:
                rest = [item for name, item in members.items() if name != key and not _in(item, common)]
                lines += ["", f"### {group}: `{key}: {kind}`", "", _doc(params.schema(group, kind))]
                lines += ["", *markdown(rest)] if rest else []
    return "\n".join(lines[1:]) + "\n"


def _fields(group, kind):
    return {item.name: item for item in dataclasses.fields(params.schema(group, kind))}


def _same(item, other):
    return item.type == other.type and item.metadata == other.metadata and default_of(item) == default_of(other)


def _in(item, common):
    return any(item.name == other.name for other in common)


def _doc(cls) -> str:
    return " ".join((cls.__doc__ or "").split())


def update(path):
    """Write the tables below the marker of a Markdown file."""
    path = Path(path)
    kept = path.read_text("utf-8").split(MARKER)[0]
    path.write_text(f"{kept}{MARKER}\n{tables()}", "utf-8")


if __name__ == "__main__":
    update(sys.argv[1] if len(sys.argv) > 1 else "docs/config.md")
