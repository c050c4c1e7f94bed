"""The current runs of a sweep as Markdown (mean and deviation over seeds) or CSV (a line per run), with wall-clock seconds."""

import contextlib
import csv
import io
import os
import re
import subprocess

from ..pipeline import audit, graph, keys, recorded, shards, spec
from ..pipeline.sweep import command
from ..runtime.errors import UserError
from . import runs
from .quality import WITHOUT_LABELS
from .runs import Group, Run, Teacher, constant, grouped, teachers

HEAD = ("origin", "runs: top-1 %", "mean ± std", "agreement %", "synthesis + distillation, s")
MAPS_HEAD = ("origin", "runs: mIoU %", "mean ± std", "agreement mIoU %", "synthesis + distillation, s")
TIMED = ("synthesize", "distill")
METRICS = ("top1", "teacher_top1", "agreement", "probe_balanced")
MAPS = ("miou", "teacher_miou", "pixel_accuracy", "agreement_miou")  # columns behind the others, where there is segmentation
CSV_HEAD = (*spec.GROUPS, "label", "origin", *METRICS, *(f"seconds_{step}" for step in TIMED), "n_test", "commit", "key")
CURVES_HEAD = (*spec.GROUPS, "label", "origin", "images", "metric", "value", "seconds", "threads", "commit", "key")
SECONDS = re.compile(r"^(?:synthesize|distill|shard \d+ of \d+): .*, (\d+(?:\.\d+)?) s(?:, key (\w+))?$", re.MULTILINE)
SNAPSHOT = re.compile(r"^snapshot after (\d+) images, (\d+(?:\.\d+)?) s$", re.MULTILINE)
GATHERED = re.compile(r"^gathered \d+ samples of (\d+) shards$", re.MULTILINE)


def current(finals: list[str]) -> list[Run]:
    """The runs among these metrics that are there and belong to params/ and the code as they are now."""
    return [run for run in runs.read(filter(os.path.exists, finals)) if not audit.fault(run.path)]


def missing(sweep: str, finals: list[str], finished: list[Run]) -> str:
    """A line on the runs of a sweep that a table lacks, with the command that makes them; empty where there are none."""
    lacking = len(finals) - len(finished)
    old = sum(map(os.path.exists, finals)) - len(finished)
    stale = f", {old} of them made with a different config or code" if old else ""
    return f"{lacking} of {len(finals)} runs are missing{stale}: {command(sweep)}" if lacking else ""


def seconds(run: Run, step: str) -> float | None:
    """Wall-clock seconds of a step by its log, with those of attempts that it went on from and of shards; None where a log is
    missing (DVC keeps none) or is that of an earlier artefact of this path."""
    log = _log(run, step)
    text = _text(log)
    logs = [text]
    if step == "synthesize" and (gathered := GATHERED.search(text)):
        of = int(gathered[1])
        logs += [_text(shards.path_of(log, number, of).with_suffix(".log")) for number in range(of)]
    matches = [match for match in map(SECONDS.search, logs) if match]
    if len(matches) < len(logs) or any(match[2] and match[2] != _key(run, step) for match in matches):
        return None
    return sum(float(match[1]) for match in matches)


def _key(run: Run, step: str) -> str:
    """The key of the artefact that a step made for a run that is current."""
    return keys.expected_key(str(graph.path_of(step, run.specs, spec.root_of(run.path))))


def _log(run: Run, step: str):
    return graph.log_of(graph.path_of(step, run.specs, spec.root_of(run.path)))


def _text(log) -> str:
    return log.read_text(errors="replace") if log.is_file() else ""


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
    """The runs as a LaTeX tabular of the package booktabs: origin, mean and deviation, and the parameters of the student."""
    groups, common, differ = _arranged(current_runs)
    columns = runs.shown_columns(groups, TABLE)
    said = ", ".join(f"{name} {groups[0].specs[name]}" for name in common)
    of_student = [name for name in differ if name not in ("dataset", "teacher")]
    # The row of a teacher is called so in the first column of what a student comes from, or in one of its own.
    names = [*differ, *([] if of_student else [""])]
    called = {of_student[0] if of_student else "": "teacher"}
    head = [*names, "origin", *(heading for _, heading, *_ in columns)]
    rows = [[*(group.specs.get(name, "student") for name in names), group.runs[0].badge,
             *(group.text(name, digits) for name, _, digits, _ in columns)] for group in groups]  # fmt: skip
    of_teachers = [
        [*({**called, **teacher.specs}.get(name, "") for name in names), "",
         *(teacher.text() if name == teacher.quality else "" for name, *_ in columns)]
        for teacher in teachers(groups)
    ]  # fmt: skip
    lines = [f"% {said}" if common else "", rf"\begin{{tabular}}{{{'l' * (len(names) + 1)}{'r' * len(columns)}}}", r"\toprule"]
    lines += [_latex_row(head), r"\midrule", *map(_latex_row, of_teachers), r"\midrule" if of_teachers else ""]
    lines += [*map(_latex_row, rows), r"\bottomrule", r"\end{tabular}"]
    return "\n".join(filter(None, lines))


def _latex_row(cells) -> str:
    special = {"\\": r"\textbackslash{}", "±": r"$\pm$", "–": "--", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    cells = ("".join(special.get(sign, sign) for sign in cell) for cell in cells)
    return " & ".join(re.sub(r"^-(?=\d)", "$-$", cell) for cell in cells) + r" \\"  # a minus and not a hyphen


TABLE = ("top1", "miou", "gap", "agreement", "agreement_miou", *WITHOUT_LABELS, "parameters")


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
    yield ", ".join(" + ".join(_seconds_text(seconds(run, step)) for step in TIMED) for run in group.runs)


def _seconds_text(took: float | None) -> str:
    return "–" if took is None else f"{took:,.0f}"


def _row(cells) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)  # the name of a photograph may have one
    return f"| {' | '.join(escaped)} |"


def to_csv(current_runs: list[Run]) -> str:
    """The runs under ``CSV_HEAD``; seconds are empty where a log is missing."""
    text, commit = io.StringIO(), _commit()
    table = csv.writer(text, lineterminator="\n")
    more = MAPS if any("miou" in run.metrics for run in current_runs) else ()
    table.writerow((*CSV_HEAD, *more))
    for run in current_runs:
        took = ["" if value is None else value for value in (seconds(run, step) for step in TIMED)]
        numbers = [run.metrics.get(name, "") for name in METRICS]
        row = [*run.specs.values(), run.label, run.origin, *numbers, *took, run.metrics.get("n_test", ""), commit]
        row += [run.metrics.get("key", ""), *(run.metrics.get(name, "") for name in more)]
        table.writerow(map(runs.csv_cell, row))
    return text.getvalue()


def curves_csv(current_runs: list[Run]) -> str:
    """How good students with snapshots were after fewer images, under ``CURVES_HEAD``: a line for each snapshot and one for the
    finished student. seconds: of synthesis and distillation until then; empty where a log is missing. threads: that these
    computed with; empty where they differ, or one of their artefacts is gone."""
    text, commit = io.StringIO(), _commit()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CURVES_HEAD)
    for run in current_runs:
        until, threads = _seconds_on_the_way(run), _threads(run)
        for images, value in run.metrics.get("curve", []):
            took = until.get(images, "")
            row = [*run.specs.values(), run.label, run.origin, images, run.quality, value, took, threads, commit]
            table.writerow(map(runs.csv_cell, [*row, run.metrics.get("key", "")]))
    return text.getvalue()


def _seconds_on_the_way(run: Run) -> dict[int, float]:
    """Images that a student had learnt from -> seconds until then, where logs tell them: while the set was made, or after it."""
    synthesis, distillation = (seconds(run, step) for step in TIMED)
    if synthesis is None:  # the log is gone, or tells of another set
        return {}
    inside, after = ({int(images): float(took) for images, took in SNAPSHOT.findall(_text(_log(run, step)))} for step in TIMED)
    if distillation is None:
        return inside
    end = {run.metrics["images_seen"]: distillation} if "images_seen" in run.metrics else {}
    return inside | {images: round(synthesis + took, 1) for images, took in {**after, **end}.items()}


def _threads(run: Run):
    numbers = set()
    for step in TIMED:
        with contextlib.suppress(UserError):  # there is none, or it is damaged
            numbers.add(recorded.provenance(graph.path_of(step, run.specs, spec.root_of(run.path))).get("threads", ""))
    return numbers.pop() if len(numbers) == 1 else ""


def _commit() -> str:
    """The commit of the working folder's checkout, with -dirty where files differ from it; empty without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
