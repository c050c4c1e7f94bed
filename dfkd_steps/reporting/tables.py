"""The current runs of a sweep as Markdown (mean and deviation over seeds) or CSV (a line per run), with wall-clock seconds."""

import csv
import io
import os
import re
import subprocess

from ..pipeline import audit, graph, spec
from . import metrics, runs
from .runs import Group, Run, Teacher, constant, grouped, teachers

HEAD = ("origin", "runs: top-1 %", "mean ± std", "agreement %", "synthesis + distillation, s")
MAPS_HEAD = ("origin", "runs: mIoU %", "mean ± std", "agreement mIoU %", "synthesis + distillation, s")
TIMED = ("synthesize", "distill")
METRICS = ("top1", "teacher_top1", "agreement", "probe_balanced")
MAPS = ("miou", "teacher_miou", "pixel_accuracy", "agreement_miou")  # columns behind the others, where there is segmentation
CSV_HEAD = (*spec.GROUPS, "label", "origin", *METRICS, *(f"seconds_{step}" for step in TIMED), "n_test", "commit", "key")
SECONDS = re.compile(r"^(?:synthesize|distill): .*, (\d+(?:\.\d+)?) s$", re.MULTILINE)


def current(finals: list[str]) -> list[Run]:
    """The runs among these metrics that are there and belong to params/ and the code as they are now."""
    return [run for run in runs.read(filter(os.path.exists, finals)) if not audit.fault(run.path)]


def missing(sweep: str, finals: list[str], finished: list[Run]) -> str:
    """A line on the runs of a sweep that a table lacks, with the command that makes them; empty where there are none."""
    lacking = len(finals) - len(finished)
    old = sum(map(os.path.exists, finals)) - len(finished)
    stale = f", {old} of them made under another config or code" if old else ""
    return f"{lacking} of {len(finals)} runs are missing{stale}: snakemake --config sweep={sweep}" if lacking else ""


def seconds(run: Run, step: str) -> tuple[float | None, bool]:
    """Wall-clock seconds of a step by its log, and whether it was resumed, when those of earlier attempts are not among them;
    None where there is no log (DVC keeps none).
    """  # fmt: skip
    log = spec.root_of(run.path).parent / graph.STEPS[step].log.format(**run.specs)
    text = log.read_text(errors="replace") if log.is_file() else ""
    match = SECONDS.search(text)
    return float(match[1]) if match else None, "resumes " in text


def markdown(current_runs: list[Run]) -> str:
    """The runs as Markdown, a row for runs that differ in nothing but seeds; what all rows have in common stands above."""
    groups, common, differ = _arranged(current_runs)
    lines = [", ".join(f"{name} `{groups[0].specs[name]}`" for name in common), ""] if common else []
    head = MAPS_HEAD if all(run.quality == "miou" for run in current_runs) else HEAD
    lines += [_row([*differ, *head]), "|---" * (len(differ) + len(head)) + "|"]
    lines += [_row([*_named(teacher, differ), "teacher", *_values(teacher), "", ""]) for teacher in teachers(groups)]
    return "\n".join([*lines, *(_row(_cells(group, differ)) for group in groups)])


def _named(teacher: Teacher, differ):
    return (f"`{teacher.specs[name]}`" if name in teacher.specs else "" for name in differ)


def _values(teacher: Teacher):
    return " ".join(f"{value:.2f}" for value in teacher.values), teacher.text()


def latex(current_runs: list[Run]) -> str:
    """The runs as a LaTeX tabular of the package booktabs: mean and deviation, and the parameters of the student."""
    groups, common, differ = _arranged(current_runs)
    columns = runs.shown_columns(groups, TABLE)
    said = ", ".join(f"{name} {groups[0].specs[name]}" for name in common)
    head = [*differ, *(heading for _, heading, *_ in columns)]
    rows = [[*(group.specs[name] for name in differ), *(group.text(name, digits) for name, _, digits, _ in columns)]
            for group in groups]  # fmt: skip
    of_teachers = [
        [*(teacher.specs.get(name, "teacher" if name == "transfer" else "") for name in differ),
         *(teacher.text() if name == teacher.quality else "" for name, *_ in columns)]
        for teacher in teachers(groups)
    ]  # fmt: skip
    lines = [f"% {said}" if common else "", rf"\begin{{tabular}}{{{'l' * len(differ)}{'r' * len(columns)}}}", r"\toprule"]
    lines += [_latex_row(head), r"\midrule", *map(_latex_row, of_teachers), r"\midrule" if of_teachers else ""]
    lines += [*map(_latex_row, rows), r"\bottomrule", r"\end{tabular}"]
    return "\n".join(filter(None, lines))


def _latex_row(cells) -> str:
    special = {"\\": r"\textbackslash{}", "±": r"$\pm$", "–": "--", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return " & ".join("".join(special.get(sign, sign) for sign in cell) for cell in cells) + r" \\"


TABLE = ("top1", "miou", "gap", "agreement", "agreement_miou", *metrics.WITHOUT_LABELS, "parameters")


def _arranged(current_runs: list[Run]):
    """Repeats together, the spec groups that all of them have in common, and the others."""
    groups = grouped(current_runs)
    common = constant(groups)
    return groups, common, [name for name in spec.GROUPS if name not in common]


def _cells(group: Group, differ):
    yield from (f"`{group.specs[name]}`" for name in differ)
    yield group.runs[0].badge
    yield " ".join(f"{run.metrics[run.quality]:.2f}" if run.has_labels else "–" for run in group.runs)
    quality = group.runs[0].quality
    yield group.text(quality if group.runs[0].has_labels else "top1", 2)
    yield group.text("agreement_miou" if quality == "miou" else "agreement", 2)
    yield ", ".join(" + ".join(_seconds_text(*seconds(run, step)) for step in TIMED) for run in group.runs)


def _seconds_text(took: float | None, resumed: bool) -> str:
    return "–" if took is None else f"{took:,.0f}{'+' * resumed}"


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"


def to_csv(current_runs: list[Run]) -> str:
    """The runs under ``CSV_HEAD``; seconds are empty where a log is missing or lacks those of an interrupted attempt."""
    text, commit = io.StringIO(), _commit()
    table = csv.writer(text, lineterminator="\n")
    more = MAPS if any("miou" in run.metrics for run in current_runs) else ()
    table.writerow((*CSV_HEAD, *more))
    for run in current_runs:
        timed = (seconds(run, step) for step in TIMED)
        took = ["" if value is None or resumed else value for value, resumed in timed]
        numbers = [run.metrics.get(name, "") for name in METRICS]
        row = [*run.specs.values(), run.label, run.origin, *numbers, *took, run.metrics.get("n_test", ""), commit]
        row += [run.metrics.get("key", ""), *(run.metrics.get(name, "") for name in more)]
        table.writerow(map(runs.csv_cell, row))
    return text.getvalue()


def _commit() -> str:
    """The commit of the working folder's checkout, with -dirty where files differ from it; empty without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
