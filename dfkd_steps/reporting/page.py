"""The page: what the template is given, and the limits that keep a large sweep readable."""

import csv
import math
from collections import Counter

import jinja2
import numpy as np

from ..runtime.commands import version
from ..runtime.errors import UserError, reading, require_file
from ..storage.transfer_set import TransferSet, class_counts
from . import figures
from .runs import COLUMNS, Group, Run, baseline, constant, grouped, without_seed

# A page of some 25 MB still opens on a phone. Characters of figures, as they stand in the page.
SAMPLES_LIMIT = 12_000_000
DETAILS_LIMIT = 12_000_000
OPEN_SETS = 6


class Budget:
    """Characters that figures of one kind may take together; what no longer fits is counted, by its name."""

    def __init__(self, limit: int):
        self.left, self.refused = limit, Counter()

    def draw(self, what: str, make, *arguments):
        """``make(*arguments)``, or None where the budget is spent."""
        if self.left <= 0:
            self.refused[what] += 1
            return None
        made = make(*arguments)
        self.left -= len(str(made))
        return made


def render(runs: list[Run], samples_limit=SAMPLES_LIMIT, details_limit=DETAILS_LIMIT, key: str = "") -> str:
    """The whole page as HTML. ``key`` stands in its head, see ``pipeline.report_key``."""
    groups, samples, details = grouped(runs), Budget(samples_limit), Budget(details_limit)
    loader = jinja2.PackageLoader("dfkd_steps.reporting", ".")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # In this order: where the budget of details runs out, it is runs far down the page that lose their figures.
    teachers, sets, detailed = _teachers(runs, details), _sets(runs, samples), [_detail(run, details) for run in runs]
    refused = samples.refused + details.refused
    return environment.get_template("page.html.j2").render(
        teachers=teachers,
        sets=sets,
        details=detailed,
        version=version(),
        key=key,
        runs=runs,
        groups=groups,
        columns=COLUMNS,
        constant=constant(groups) if len(groups) > 1 else [],
        panels=_panels(groups),
        datasets=sorted({run.specs["dataset"] for run in runs}),
        number_of={run.path: index for index, run in enumerate(runs)},
        repeats=any(len(group.runs) > 1 for group in groups),
        most_named=figures.MOST_NAMED,
        left_out=sorted(refused.items()),
    )


def _first_by(runs, depth):
    """The first run of each distinct path of ``depth`` specs."""
    found = {}
    for run in runs:
        found.setdefault(tuple(run.specs.values())[:depth], run)
    return found.values()


def _teachers(runs, budget):
    return [
        {
            "dataset": run.specs["dataset"],
            "name": run.specs["teacher"],
            "top1": run.metrics["teacher_top1"],
            "curves": budget.draw("training curves of teachers", _curves, run.file(2, "history.csv")),
        }
        for run in _first_by(runs, 2)
    ]


def _panels(groups: list[Group]):
    """Bars of each data set, teacher and student, best first, with the teacher and the real-data baseline."""
    panels = {}
    for group in groups:
        panels.setdefault(tuple(group.specs[key] for key in ("dataset", "teacher", "student")), []).append(group)
    return [
        {
            "dataset": dataset,
            "teacher": teacher,
            "student": student,
            "teacher_top1": _mean_teacher(members),
            "baseline": baseline(members),
            "groups": sorted(members, key=lambda group: (-group.mean("top1"), *group.specs.values())),
        }
        for (dataset, teacher, student), members in sorted(panels.items())
    ]


def _mean_teacher(groups):
    distinct = {run.specs["teacher"]: run.metrics["teacher_top1"] for group in groups for run in group.runs}
    return math.fsum(distinct.values()) / len(distinct)


def _curves(path):
    """A chart per column of a history.csv; none where there is no file, or no epoch in it (a teacher that was imported)."""
    if not path.exists():
        return []
    require_file(path)
    with reading(path, "cannot be read"), open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    charts = []
    for name in rows[0] if rows else []:
        try:
            points = [(float(row["epoch"]), float(row[name])) for row in rows if row[name]]
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path}: column {name} is not a number for each epoch; delete it and make it again") from None
        points = [point for point in points if all(map(math.isfinite, point))]
        if points and name != "epoch":
            charts.append(figures.line_chart(name, *map(list, zip(*points))))
    return charts


def _sets(runs, budget):
    """A card per transfer set. Sets that differ from an earlier one in seed alone are closed, and so are all after a few."""
    cards, seen, balances = [], set(), {}
    for run in _first_by(runs, 4):
        balances.setdefault(tuple(run.specs.values())[:3], []).append(run)
    for own, of_set in balances.items():
        family = (own[0], without_seed("teacher", own[1]), without_seed("transfer", own[2]))
        shown = family not in seen and len(seen) < OPEN_SETS
        seen.add(family)
        cards.append({"specs": own, "run": of_set[0], "open": shown} | _set(of_set, budget))
    return cards


def _set(of_set: list[Run], budget):
    """Samples of a transfer set and a histogram per balance; ``of_set``: a run for each balance."""
    run, before = of_set[0], None
    path = run.file(3, "transfer_set.h5")
    card = {"path": path, "n": None, "strips": [], "classes": len(run.metrics["classes"])}
    if path.exists():
        with TransferSet(path) as transfer:
            before, card["n"] = class_counts(transfer), len(transfer)
            _check_classes(path, before, run)
            card["strips"] = budget.draw("sample grids", figures.sample_strips, transfer, run.metrics["classes"])
    there = [one for one in of_set if one.file(4, "transfer_set.h5").exists()]
    return card | {"histograms": [_histogram(one, before, budget) for one in there]}


def _histogram(run, before, budget):
    """Samples per class after balancing, and before it where that is known and differs."""
    path, classes, balance = run.file(4, "transfer_set.h5"), run.metrics["classes"], run.specs["balance"]
    with TransferSet(path) as balanced:
        about = balanced.metadata
        after = np.asarray(about["histogram_after"]) if "histogram_after" in about else class_counts(balanced)
    before = np.asarray(about["histogram_before"]) if "histogram_before" in about else before
    _check_classes(path, after, run)
    same = before is None or np.array_equal(before, after)
    series = {"after": after.tolist()} if same else {"before": before.tolist(), "after": after.tolist()}
    title = f"samples per class, balance {balance}"
    return {
        "balance": balance,
        "before": None if before is None else int(before.sum()),
        "after": int(after.sum()),
        "same": same,
        "uncovered": about.get("uncovered", [name for name, count in zip(classes, after) if not count]),
        "svg": budget.draw("class histograms", figures.class_bars, title, classes, series),
    }


def _check_classes(path, counts, run):
    have, wanted = len(counts), len(run.metrics["classes"])
    if have != wanted:
        raise UserError(f"{path}: has {have} classes, {run.path} has {wanted}; delete the older and make it again")


def _detail(run: Run, budget: Budget):
    classes, matrix = run.metrics["classes"], run.metrics["confusion_matrix"]
    named = len(classes) <= figures.MOST_NAMED
    bars = ("top-1 per class, percent", classes, {"top-1": run.metrics["per_class"]}, 100)
    return {
        "run": run,
        "numbers": run.numbers(),
        "curves": budget.draw("training curves of students", _curves, run.file(5, "history.csv")),
        "per_class": budget.draw("per-class accuracies", figures.class_bars, *bars),
        "confusion": budget.draw("confusion matrices", _confusion if named else figures.confusion_png, matrix),
    }


def _confusion(matrix):
    """Rows of (count, share of the true class in percent)."""
    return [[(count, round(100 * count / max(1, sum(row)))) for count in row] for row in matrix]
