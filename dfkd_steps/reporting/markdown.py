"""The runs of a sweep as a Markdown table: each run, mean and deviation, and the seconds that synthesis and distillation took."""

import re
from pathlib import Path

from ..pipeline import graph, spec
from .runs import Group, Run, constant, grouped

HEAD = ("runs: top-1 %", "mean ± std", "agreement %", "synthesis + distillation, s")
TOLD = re.compile(r"^(?:synthesize|distill): .*, (\d+(?:\.\d+)?) s$", re.MULTILINE)


def seconds(log: Path) -> str:
    """How long a step took, by its log: whole seconds, with a + where an interrupted step was resumed and earlier ones are not
    in the log; a dash where there is no log (DVC keeps none).
    """  # fmt: skip
    text = log.read_text(errors="replace") if log.is_file() else ""
    found = TOLD.search(text)
    return f"{float(found[1]):,.0f}{'+' * ('resumes ' in text)}" if found else "–"


def cost(run: Run) -> str:
    """Seconds of synthesis + seconds of distillation."""
    root = spec.root_of(run.path).parent
    return " + ".join(seconds(root / graph.STEPS[step].log.format(**run.specs)) for step in ("synthesize", "distill"))


def table(runs: list[Run]) -> str:
    """The runs as Markdown, a row for what differs in nothing but seeds; what all rows have in common stands above."""
    groups = grouped(runs)
    common = constant(groups)
    differ = [name for name in spec.GROUPS if name not in common]
    lines = [", ".join(f"{name} `{groups[0].specs[name]}`" for name in common), ""] if common else []
    lines += [_row([*differ, *HEAD]), "|---" * (len(differ) + len(HEAD)) + "|"]
    return "\n".join([*lines, *(_row(_cells(group, differ)) for group in groups)])


def _cells(group: Group, differ):
    yield from (f"`{group.specs[name]}`" for name in differ)
    yield " ".join(f"{run.metrics['top1']:.2f}" for run in group.runs)
    yield from (group.text(name, 2) for name in ("top1", "agreement"))
    yield ", ".join(map(cost, group.runs))


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"
