"""The page: what the template is given, and the limits that keep a large sweep readable."""

import math
from collections import Counter

import jinja2
import numpy as np

from ..runtime.commands import version
from ..runtime.errors import UserError
from ..storage.transfer_set import TransferSet, class_counts
from . import curves, examples, figures
from .metrics import COLUMNS
from .quality import ACCURACIES
from .runs import (
    Group,
    Run,
    baseline,
    best_first,
    constant,
    equal_sizes,
    first_by,
    grouped,
    shown_columns,
    without_seed,
)
from .runs import teachers as of_teachers

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
        drawing = make(*arguments)
        self.left -= len(str(drawing))
        return drawing


def render(runs: list[Run], samples_limit=SAMPLES_LIMIT, details_limit=DETAILS_LIMIT, key: str = "") -> str:
    """The whole page as HTML. ``key`` stands in its head, see ``pipeline.report_key``."""
    groups, samples, details = grouped(runs), Budget(samples_limit), Budget(details_limit)
    loader = jinja2.PackageLoader("dfkd_steps.reporting", ".")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # In this order: where the budget of details runs out, it is runs far down the page that lose their figures.
    panels, scales = _panels(groups), curves.scales(runs)
    teachers, sets = _teachers(runs, details, scales), _sets(runs, samples)
    overlaid, detailed = curves.overlays(panels, details), [_detail(run, details, scales) for run in runs]
    refused = samples.refused + details.refused
    return environment.get_template("page.html.j2").render(
        teachers=teachers,
        overlays=overlaid,
        sets=sets,
        details=detailed,
        version=version(),
        key=key,
        runs=runs,
        groups=best_first(groups),
        teacher_rows=of_teachers(groups),
        columns=shown_columns(groups),
        equal_sizes=[
            (heading, groups[0].mean_text(name, digits)) for name, heading, digits, _ in COLUMNS if name in equal_sizes(groups)
        ],
        constant=constant(groups) if len(groups) > 1 else [],
        panels=panels,
        datasets=sorted({run.specs["dataset"] for run in runs}),
        number_of={run.path: index for index, run in enumerate(runs)},
        intervals=any(group.interval(name, 0) for group in groups for name in ACCURACIES),
        repeats=any(len(group.runs) > 1 for group in groups),
        most_named=figures.MOST_NAMED,
        left_out=sorted(refused.items()),
    )


def _teachers(runs, budget, scales):
    return [
        {
            "dataset": run.specs["dataset"],
            "name": run.specs["teacher"],
            "accuracy": run.metrics.get(f"teacher_{run.quality}"),
            "accuracy_is": "mIoU" if run.quality == "miou" else "top-1",
            "curves": budget.draw("training curves of teachers", curves.charts, run.file(2, "history.csv"), scales["teacher"]),
        }
        for run in first_by(runs, 2)
    ]


def _panels(groups: list[Group]):
    """Each data set, teacher and student with its runs, best first, on an axis that shows their differences."""
    panels = {}
    for group in groups:
        panels.setdefault(tuple(group.specs[key] for key in ("dataset", "teacher", "student")), []).append(group)
    return [_panel(specs, members) for specs, members in sorted(panels.items())]


def _panel(specs, members):
    """Dots and intervals of the accuracy; without test images, of the agreement on probe images."""
    # That of a run without labels, where there are any: all have it.
    metric = next((run.quality for group in members for run in group.runs if not run.has_labels), members[0].runs[0].quality)
    members = [group for group in members if group.mean(metric) is not None]
    real, teacher = baseline(members), _mean_teacher(members, metric) if metric in ACCURACIES else None
    spans = {id(group): _interval(group, metric) for group in members}
    values = [value for span in spans.values() for value in span]
    values += [teacher] if teacher is not None else []
    low, high, ticks = figures.dot_axis(values) if values else (0.0, 100.0, [0, 50, 100])

    def place(value):
        return round(100 * (value - low) / (high - low), 2)

    rows = [
        {"group": group, "at": place(group.mean(metric)), "from": place(spans[id(group)][0]), "to": place(spans[id(group)][1])}
        for group in sorted(members, key=lambda group: (-group.mean(metric), *group.specs.values()))
    ]
    return {
        **dict(zip(("dataset", "teacher", "student"), specs)),
        "metric": metric,
        "teacher_accuracy": teacher,
        "teacher_at": None if teacher is None else place(teacher),
        "baseline": real,
        "baseline_at": None if real is None else place(real.mean(metric)),
        "rows": rows,
        "ticks": [(f"{tick:g}", place(tick)) for tick in ticks],
    }


def _interval(group: Group, metric: str) -> tuple[float, float]:
    """What the line through a dot covers: mean ± deviation over seeds, or of a single run the 95 % interval, if it has one."""
    mean, std = group.mean(metric), group.std(metric)
    if std is not None:
        return max(0.0, mean - std), min(100.0, mean + std)
    low, high = (group.runs[0].metrics.get(f"{metric}_interval") or (mean, mean))[:2]
    return low, high


def _mean_teacher(groups, metric):
    distinct = {run.specs["teacher"]: run.metrics[f"teacher_{metric}"] for group in groups for run in group.runs}
    return math.fsum(distinct.values()) / len(distinct)


def _sets(runs, budget):
    """A card per transfer set. Sets that differ from an earlier one in seed alone are closed, and so are all after a few."""
    cards, seen, balances = [], set(), {}
    for run in first_by(runs, 4):
        balances.setdefault(tuple(run.specs.values())[:3], []).append(run)
    for specs, of_set in balances.items():
        family = (specs[0], without_seed("teacher", specs[1]), without_seed("transfer", specs[2]))
        is_open = family not in seen and len(seen) < OPEN_SETS
        seen.add(family)
        cards.append({"specs": specs, "run": of_set[0], "open": is_open} | _set(of_set, budget))
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
    there = [member for member in of_set if member.file(4, "transfer_set.h5").exists()]
    return card | {"histograms": [_histogram(member, before, budget) for member in there]}


def _histogram(run, before, budget):
    """Samples per class after balancing, and before it where that is known and differs."""
    path, classes, balance = run.file(4, "transfer_set.h5"), run.metrics["classes"], run.specs["balance"]
    with TransferSet(path) as balanced:
        about, unit = balanced.metadata, "pixels" if balanced.layout.dense else "samples"
        after = np.asarray(about["histogram_after"]) if "histogram_after" in about else class_counts(balanced)
    before = np.asarray(about["histogram_before"]) if "histogram_before" in about else before
    _check_classes(path, after, run)
    same = before is None or np.array_equal(before, after)
    series = {"after": after.tolist()} if same else {"before": before.tolist(), "after": after.tolist()}
    title = f"{unit} per class, balance {balance}"
    return {
        "balance": balance,
        "unit": unit,
        "before": None if before is None else int(before.sum()),
        "after": int(after.sum()),
        "same": same,
        "uncovered": [name for name, count in zip(classes, after) if not count],
        "svg": budget.draw("class histograms", figures.class_bars, title, classes, series),
        "strips": [] if same else budget.draw("sample grids", _strips, path, classes),
    }


def _strips(path, classes):
    with TransferSet(path) as transfer:
        return figures.sample_strips(transfer, classes)


def _check_classes(path, counts, run):
    have, expected = len(counts), len(run.metrics["classes"])
    if have != expected:
        raise UserError(f"{path}: has {have} classes, but {run.path} has {expected}; delete the older one and make it again")


PER_CLASS = {
    "top1": ("per_class", "top-1"),
    "miou": ("per_class_iou", "IoU"),
    "probe_balanced": ("probe_per_class", "agreement on probe images"),
    "probe_miou": ("probe_per_class_iou", "IoU with the teacher's maps of probe images"),
}


def _detail(run: Run, budget: Budget, scales):
    classes, metrics = run.metrics["classes"], run.metrics
    detail = {
        "run": run,
        "numbers": run.numbers(),
        "curves": budget.draw("training curves of students", curves.charts, run.file(5, "history.csv"), scales["student"]),
        "kinds": metrics.get("probe_kinds", []),
        "per_class": None,
        "confusion": None,
        "confusions": [],
        "examples": None,
        "colours": [],
    }
    if content := examples.of_run(run.path, metrics.get("examples")):
        detail["examples"] = budget.draw("examples of test images", figures.data_uri, content)
        detail["colours"] = [(name, "#" + bytes(colour).hex()) for name, colour in zip(classes, examples.palette(len(classes)))]
    name, title = PER_CLASS[run.quality]
    if metrics.get(name):
        bars = (f"{title} per class, percent", classes, {title: metrics[name]}, 100)
        detail["per_class"] = budget.draw("per-class accuracies", figures.class_bars, *bars)
        detail["per_class_title"] = bars[0]
    if "confusion_matrix" in metrics:
        draw = _confusion if len(classes) <= figures.MOST_NAMED else figures.confusion_png
        detail["confusion"] = budget.draw("confusion matrices", draw, metrics["confusion_matrix"])
    errors = metrics.get("confusions", [])[: figures.MOST_NAMED]
    detail["confusions"] = [(classes[true], classes[said], count) for true, said, count in errors]
    return detail


def _confusion(matrix):
    """Rows of (count, share of the true class in percent)."""
    return [[(count, round(100 * count / max(1, sum(row)))) for count in row] for row in matrix]
