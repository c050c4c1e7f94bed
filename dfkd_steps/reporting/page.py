"""The page: what the template is given, and the limits that keep a large sweep readable."""

import csv
import math
from collections import Counter

import jinja2
import numpy as np

from .. import __version__
from ..errors import UserError
from ..transfer_set import TransferSet, class_counts
from . import figures
from .runs import COLUMNS, Group, Run, baseline, grouped, without_seed

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
    environment = jinja2.Environment(loader=jinja2.PackageLoader("dfkd_steps.reporting", "."), autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    # In this order: where the budget of details runs out, it is runs far down the page that lose their figures.
    content = {"teachers": _teachers(runs, details), "sets": _sets(runs, samples), "details": [_detail(run, details) for run in runs]}
    refused = samples.refused + details.refused
    return environment.get_template("page.html.j2").render(
        **content,
        version=__version__,
        key=key,
        runs=runs,
        groups=groups,
        columns=COLUMNS,
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
    for_each = _first_by(runs, 2)
    return [
        {"dataset": run.specs["dataset"], "name": run.specs["teacher"], "top1": run.metrics["teacher_top1"],
         "curves": budget.draw("training curves of teachers", _curves, run.file(2, "history.csv"))}
        for run in for_each
    ]  # fmt: skip


def _panels(groups: list[Group]):
    """Bars of each data set, teacher and student, best first, with the teacher and the real-data baseline."""
    panels = {}
    for group in groups:
        panels.setdefault(tuple(group.specs[key] for key in ("dataset", "teacher", "student")), []).append(group)
    return [
        {"dataset": dataset, "teacher": teacher, "student": student, "teacher_top1": _mean_teacher(members),
         "baseline": baseline(members, members[0].specs),
         "groups": sorted(members, key=lambda group: (-group.mean("top1"), *group.specs.values()))}
        for (dataset, teacher, student), members in sorted(panels.items())
    ]  # fmt: skip


def _mean_teacher(groups):
    distinct = {run.specs["teacher"]: run.metrics["teacher_top1"] for group in groups for run in group.runs}
    return math.fsum(distinct.values()) / len(distinct)


def _curves(path):
    """A chart per column of a history.csv; none where there is no file, or no epoch in it (a teacher that was imported)."""
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())[:100]}); delete it and make it again") from None
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
    """A card per transfer set, with a histogram per balance. Sets that differ from an earlier one in seed alone are closed."""
    cards, seen, balances = [], set(), _first_by(runs, 4)
    for run in _first_by(runs, 3):
        own = tuple(run.specs.values())[:3]
        family = (own[0], without_seed("teacher", own[1]), without_seed("transfer", own[2]))
        path = run.file(3, "transfer_set.h5")
        card = {"dataset": own[0], "teacher": own[1], "name": own[2], "run": run, "n": None, "strips": [],
                "path": path, "open": family not in seen and len(seen) < OPEN_SETS, "classes": len(run.metrics["classes"])}  # fmt: skip
        seen.add(family)
        before = None
        if path.exists():
            with TransferSet(path) as transfer:
                before, card["n"] = class_counts(transfer), len(transfer)
                _check_classes(path, before, run)
                card["strips"] = budget.draw("sample grids", figures.sample_strips, transfer, run.metrics["classes"])
        made_from = [one for one in balances if tuple(one.specs.values())[:3] == own]
        card["histograms"] = [_histogram(one, before, budget) for one in made_from if one.file(4, "transfer_set.h5").exists()]
        cards.append(card)
    return cards


def _histogram(run, before, budget):
    path, classes = run.file(4, "transfer_set.h5"), run.metrics["classes"]
    with TransferSet(path) as balanced:
        about = balanced.about
        after = np.asarray(about["histogram_after"]) if "histogram_after" in about else class_counts(balanced)
    before = np.asarray(about["histogram_before"]) if "histogram_before" in about else before
    _check_classes(path, after, run)
    same = before is None or np.array_equal(before, after)
    series = {"after": after.tolist()} if same else {"before": before.tolist(), "after": after.tolist()}
    uncovered = about.get("uncovered", [name for name, count in zip(classes, after) if not count])
    title = f"samples per class, balance {run.specs['balance']}"
    return {"balance": run.specs["balance"], "before": None if before is None else int(before.sum()), "after": int(after.sum()), "same": same,
            "uncovered": uncovered, "svg": budget.draw("class histograms", figures.class_bars, title, classes, series)}  # fmt: skip


def _check_classes(path, counts, run):
    if len(counts) != len(run.metrics["classes"]):
        raise UserError(f"{path}: has {len(counts)} classes, {run.path} has {len(run.metrics['classes'])}; delete the older and make it again")


def _detail(run: Run, budget: Budget):
    classes, matrix = run.metrics["classes"], run.metrics["confusion_matrix"]
    named = len(classes) <= figures.MOST_NAMED
    title = "top-1 per class, percent"
    return {
        "run": run,
        "numbers": run.numbers(),
        "curves": budget.draw("training curves of students", _curves, run.file(5, "history.csv")),
        "per_class": budget.draw("per-class accuracies", figures.class_bars, title, classes, {"top-1": run.metrics["per_class"]}, 100),
        "confusion": budget.draw("confusion matrices", _confusion if named else figures.confusion_png, matrix),
    }


def _confusion(matrix):
    """Rows of (count, share of the true class in percent)."""
    return [[(count, round(100 * count / max(1, sum(row)))) for count in row] for row in matrix]
