"""Learning curves on the page: of teachers and students by epoch, of what a method trains before its images by round, and how
good students were after fewer images.
"""

import csv
import math
from types import MappingProxyType

from ..runtime.errors import UserError, reading, require_file
from ..storage.transfer_set import TransferSet
from . import figures
from .metrics import COLUMNS
from .runs import Run, first_by

MOST_OVERLAID = 8  # curves in a chart: as many colours can be told apart
# Titles of learning curves of methods with rounds, as long as a chart is wide; figures of other names are a method's own.
INSIDE = {
    "loss": "online student: loss",
    "agreement": "online student: agreement, %",
    "generator": "generator: loss",
    "effective": "effective number of images (phi)",
}


def _history(path) -> dict[str, tuple[list, list]]:
    """Column -> (epochs, values) of a history.csv; empty where there is no file, or no epoch in it (an imported teacher)."""
    if not path.exists():
        return {}
    require_file(path)
    with reading(path, "cannot be read"), open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {}
    for name in rows[0] if rows else []:
        try:
            points = [(float(row["epoch"]), float(row[name])) for row in rows if row[name]]
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path}: column {name} is not a number for each epoch; delete it and make it again") from None
        points = [point for point in points if all(map(math.isfinite, point))]
        if points and name != "epoch":
            columns[name] = tuple(map(list, zip(*points)))
    return columns


def scales(runs) -> dict[str, dict[str, figures.Scale]]:
    """For teachers and for students: column of history.csv -> the one scale that all its charts have."""
    by_kind = {}
    for kind, depth in (("teacher", 2), ("student", 5)):
        values = {}
        for run in first_by(runs, depth):
            for name, (_, points) in _history(run.file(depth, "history.csv")).items():
                values.setdefault(name, []).extend(points)
        by_kind[kind] = {name: figures.Scale.over(points) for name, points in values.items()}
    return by_kind


def charts(path, scales):
    """A chart for each column of a history.csv, on the scale of all of them."""
    return [figures.line_chart(name, [curve], scales[name]) for name, curve in _history(path).items()]


def overlays(panels: list[dict], budget) -> list[dict]:
    """Of each panel of ``page`` (a data set, a teacher and a student) the learning curves in one chart: of each group its first
    run, the best first; of the students that distill trained, by round of what a method trained before its images, and by
    images of what students with snapshots were on their way.

    budget: a ``page.Budget``.
    """
    overlaid = []
    for panel in panels:
        members = [row["group"] for row in panel["rows"]][:MOST_OVERLAID]
        names = ["/".join((group.specs["transfer"], group.specs["balance"])) for group in members]
        histories = [_history(group.runs[0].file(5, "history.csv")) for group in members]
        charts = _overlay(histories, "epoch", names, budget)
        inside = {group.specs["transfer"]: _inside(group.runs[0]) for group in members}
        charts += _overlay(list(inside.values()), "round", list(inside), budget, INSIDE)
        on_the_way = [_on_the_way(group.runs[0]) for group in members]
        charts += _overlay(on_the_way, "images", names, budget, {name: heading for name, heading, *_ in COLUMNS}, log=True)
        overlaid.append({**{key: panel[key] for key in ("dataset", "teacher", "student")}, "charts": charts})
    return overlaid


def _overlay(histories, unit, names, budget, titles=MappingProxyType({}), log=False):
    """A chart for each column but the learning rate, with the names of its curves."""
    charts = []
    for column in sorted({name for history in histories for name in history} - {"lr"}):
        curves = [(name, history[column]) for name, history in zip(names, histories) if column in history]
        lines, title = [curve for _, curve in curves], titles.get(column, column)
        svg = budget.draw("learning curves", figures.line_chart, title, lines, None, unit, log)
        charts += [{"svg": svg, "names": [name for name, _ in curves]}] if svg else []
    return charts


def _on_the_way(run: Run) -> dict[str, tuple[list, list]]:
    """The quality of a student by the images it had learnt from; empty where it has no snapshots."""
    points = [point for point in run.metrics.get("curve", []) if point[0] > 0]
    return {run.quality: tuple(map(list, zip(*points)))} if points else {}


def _inside(run: Run) -> dict[str, tuple[list, list]]:
    """Column -> (rounds, values) of what a method trained before its images; empty where it trains nothing."""
    path = run.file(3, "transfer_set.h5")
    if not path.exists():
        return {}
    with TransferSet(path) as transfer:
        history = transfer.metadata.get("history") or {}
    return {name: (history["round"], values) for name, values in history.items() if name != "round" and values}
