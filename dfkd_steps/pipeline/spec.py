"""The path is the experiment: ``results/{dataset}/{teacher}/{transfer}/{balance}/{student}/``.

A spec is ``NAME[+key=value...]``: the file ``params/<group>/NAME.yaml`` and overrides of its keys.
The separator is no comma, because Snakemake splits ``--target-jobs`` at commas and then runs another
job (snakemake#2366).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import UserError

GROUPS = ("dataset", "teacher", "transfer", "balance", "student")
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
PATTERN = rf"{NAME}(?:\+[A-Za-z0-9_.]+=[A-Za-z0-9_.-]+)*"
# The Slurm plugin joins all five specs into one directory name, of at most 255 bytes.
MAX_LENGTH = 48
RESERVED = ("results", "_resolved")


@dataclass(frozen=True)
class Spec:
    group: str
    name: str
    overrides: tuple[tuple[str, str], ...]

    def __str__(self):
        return "+".join([self.name, *(f"{key}={value}" for key, value in self.overrides)])

    def without(self, key: str) -> "Spec":
        """The spec without its override of ``key``."""
        return Spec(self.group, self.name, tuple(pair for pair in self.overrides if pair[0] != key))


def parse(group: str, text: str) -> Spec:
    """The parts of a spec; raises UserError where the grammar is broken, with the right spelling if there is one."""
    if not isinstance(text, str):
        kind = type(text).__name__
        raise UserError(f"{group}: {str(text)[:60]!r} is not a spec but a {kind}; write a name, in quotes if it is a number")
    short = text if len(text) <= 80 else text[:77] + "..."
    if not re.fullmatch(PATTERN, text) or ".." in text:
        raise UserError(f"{group}: {short!r} is not NAME or NAME+key=value+key=value (letters, digits, '_', '.', '-')")
    if len(text) > MAX_LENGTH:
        raise UserError(
            f"{group}: {short!r} has {len(text)} characters, more than {MAX_LENGTH}; "
            f"put these values into a file params/{group}/NAME.yaml of their own and write NAME"
        )
    name, *parts = text.split("+")
    if name in RESERVED:
        raise UserError(
            f"{group}: {name!r} is the name of a folder that dfkd uses; give the file params/{group}/{name}.yaml another name"
        )
    overrides = [(key, value) for key, _, value in (part.partition("=") for part in parts)]
    keys = [key for key, _ in overrides]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f"{group}: {text!r} gives {twice} twice; give it once")
    ordered = Spec(group, name, tuple(sorted(overrides)))
    if keys != sorted(keys):
        raise UserError(f"{group}: {text!r} has its overrides out of order; write {str(ordered)!r}")
    return ordered


def display(path) -> str:
    """A path as it may stand in a message: one line, not too long, nothing that a terminal would obey."""
    text = str(path)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 300 else f"{text[:200]}...{text[-80:]}"


def of_path(path) -> dict[str, str]:
    """The specs that a path under ``results/`` spells, by group."""
    parts = Path(path).parts[:-1]
    if "results" not in parts:
        raise UserError(
            f"{display(path)}: is not under results/{{dataset}}/{{teacher}}/..., where artefacts are; give such a path"
        )
    at = len(parts) - 1 - parts[::-1].index("results")
    specs = parts[at + 1 :]
    if not 1 <= len(specs) <= len(GROUPS):
        raise UserError(f"{display(path)}: has {len(specs)} specs after results/; expected 1 to 5: {'/'.join(GROUPS)}")
    return dict(zip(GROUPS, specs))


def root_of(path) -> Path:
    """The ``results`` directory that ``path`` lies in."""
    path = Path(path)
    return path.parents[len(of_path(path))]
