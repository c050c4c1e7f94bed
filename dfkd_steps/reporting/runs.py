"""The runs of a sweep, read from their metrics; grouped over seeds; as CSV and as a plain table."""

import csv
import io
import json
import statistics
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from ..pipeline import graph, spec
from ..runtime.errors import UserError
from ..storage import atomic
from ..storage.transfer_set import TransferSet
from .metrics import COLUMNS, ORIGINS, SIZES, fault, is_number
from .quality import ACCURACIES, WITHOUT_LABELS, quality

# Runs that differ in these groups' seeds alone are repeats. Another seed of the data set is another test set: no repeat.
REPEATED = ("teacher", "transfer", "balance", "student")


@dataclass(frozen=True)
class Run:
    """One metrics.json. ``origin``: what its transfer set is made from, of ``ORIGINS``; ``label``: the same for people."""

    path: Path
    specs: dict[str, str]
    metrics: dict
    label: str
    origin: str

    def value(self, name: str) -> float | None:
        """A scalar metric, or the gap to the teacher in percentage points; None where it is missing."""
        if name == "gap":
            return self.metrics[self.quality] - self.metrics[f"teacher_{self.quality}"] if self.has_labels else None
        return self.metrics.get(name)

    @property
    def has_labels(self) -> bool:
        """Was the student measured on labelled test images?"""
        return self.quality in ACCURACIES

    @property
    def quality(self) -> str:
        """The metric that says how good the run is."""
        return quality(self.metrics)

    def numbers(self) -> list[tuple[str, str]]:
        """All scalar metrics as plain decimals: those of COLUMNS first, the others by name."""
        names = sorted((name for name, value in self.metrics.items() if is_number(value)), key=_place)
        return [(name, format(Decimal(repr(self.metrics[name])), "f")) for name in names]

    @property
    def badge(self) -> str:
        """The origin, for people."""
        return {"real": self.label, "other": self.label, "unknown": "origin unknown"}.get(self.origin, self.origin)

    def file(self, depth: int, name: str) -> Path:
        """The file of this name below the first ``depth`` specs."""
        return self.path.parents[len(spec.GROUPS) - depth] / name


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but seeds; ``specs`` are theirs without them."""

    specs: dict[str, str]
    runs: list[Run]

    def mean(self, name: str) -> float | None:
        """Mean of a metric over the runs; None where one of them lacks it."""
        values = [run.value(name) for run in self.runs]
        return None if None in values else statistics.fmean(values)

    def std(self, name: str) -> float | None:
        """Sample standard deviation over the runs; None for a single run."""
        values = [run.value(name) for run in self.runs]
        return None if None in values or len(values) < 2 else statistics.stdev(values)

    def mean_text(self, name: str, digits: int) -> str:
        """The mean as tables show it; a gap with its sign."""
        mean = self.mean(name)
        return "–" if mean is None else f"{mean:+.{digits}f}" if name == "gap" else f"{mean:,.{digits}f}"

    def deviation(self, name: str, digits: int) -> str:
        """The standard deviation as tables show it; empty for a single run."""
        std = self.std(name)
        return "" if std is None or name in SIZES else f"± {std:.{digits}f}"

    def text(self, name: str, digits: int) -> str:
        """Mean and deviation."""
        return f"{self.mean_text(name, digits)} {self.deviation(name, digits)}".rstrip()

    def interval(self, name: str, digits: int) -> str:
        """The 95 % interval of a single run as tables show it; empty of repeats and where none is known."""
        bounds = self.runs[0].metrics.get(f"{name}_interval") if len(self.runs) == 1 else None
        return f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}" if bounds else ""


@dataclass(frozen=True)
class Teacher:
    """A teacher on the test images of a data set: ``quality`` in percent, of each seed that the teacher was trained with."""

    specs: dict[str, str]
    quality: str
    values: list[float]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values)

    def text(self) -> str:
        """Mean and sample deviation."""
        std = f" ± {statistics.stdev(self.values):.2f}" if len(self.values) > 1 else ""
        return f"{self.mean:.2f}{std}"


def read(paths) -> list[Run]:
    """All runs, in the order of their specs; raises UserError that lists every bad file."""
    runs, faults, seen = [], [], set()
    for path in map(Path, paths):
        try:
            if path in seen:
                raise UserError(f"{path}: is given twice; give it once")
            seen.add(path)
            runs.append(_read(path))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join(faults))
    return sorted(runs, key=lambda run: tuple(run.specs.values()))


def _read(path):
    specs = spec.of_path(path)
    if path.name != "metrics.json" or len(specs) != len(spec.GROUPS):
        template = graph.STEPS["evaluate"].template
        raise UserError(f"{path}: is not {template}; give a metrics.json of the step evaluate")
    for group, text in specs.items():
        spec.parse(group, text)
    metrics = atomic.read_json(path)
    if problem := fault(metrics, specs):
        raise UserError(f"{path}: {problem}; delete it and make it again")
    about = _about(path)
    origin = about.get("origin")
    return Run(path, specs, metrics, spec.display(about.get("label", "unknown")), origin if origin in ORIGINS else "unknown")


def _place(name):
    """Sorting key of metrics: the known ones in their order, the others after them by name."""
    known = ["top1", "top5", "teacher_top1", "miou", "teacher_miou"]
    known += [column for column, *_ in COLUMNS if column not in ("top1", "miou", "gap")]
    return (known.index(name) if name in known else len(known), name)


def _about(path):
    """What the transfer set of a run says of itself; empty where there is no file any more."""
    for place in (path.parents[2], path.parents[1]):
        if (place / "transfer_set.h5").exists():
            with TransferSet(place / "transfer_set.h5") as transfer:
                if "origin" in transfer.metadata:
                    return transfer.metadata
    return {}


def first_by(runs: list[Run], depth: int):
    """The first run of each distinct path of ``depth`` specs."""
    firsts = {}
    for run in runs:
        firsts.setdefault(tuple(run.specs.values())[:depth], run)
    return firsts.values()


def without_seed(group: str, text: str) -> str:
    """A spec without its override of ``seed``."""
    return str(spec.parse(group, text).without("seed"))


def grouped(runs: list[Run]) -> list[Group]:
    """Repeats together, in the order of the specs without seeds."""
    groups = {}
    for run in runs:
        specs = {group: without_seed(group, text) if group in REPEATED else text for group, text in run.specs.items()}
        groups.setdefault(tuple(specs.values()), Group(specs, [])).runs.append(run)
    return [groups[key] for key in sorted(groups)]


def best_first(groups: list[Group]) -> list[Group]:
    """The groups by what says how good their runs are, largest first; those without test images behind the others."""

    def place(group):
        measured = all(run.has_labels for run in group.runs)
        return not measured, -(group.mean(group.runs[0].quality) or 0.0), *group.specs.values()

    return sorted(groups, key=place)


def teachers(groups: list[Group]) -> list[Teacher]:
    """The teachers of these runs that were measured on test images, in the order of their specs without seeds."""
    by_name = {}
    for group in groups:
        for run in group.runs:
            if run.has_labels:
                scores = by_name.setdefault((group.specs["dataset"], group.specs["teacher"], run.quality), {})
                scores[run.specs["teacher"]] = run.metrics[f"teacher_{run.quality}"]
    return [
        Teacher({"dataset": data, "teacher": name}, *rest, [*scores.values()])
        for (data, name, *rest), scores in sorted(by_name.items())
    ]


def constant(groups: list[Group]) -> list[str]:
    """The spec groups in which all rows of a table agree."""
    return [name for name in spec.GROUPS if len({group.specs[name] for group in groups}) == 1]


def equal_sizes(groups: list[Group]) -> list[str]:
    """The sizes in which all rows of a table agree; none of a table of one row."""
    return [name for name in SIZES if len(groups) > 1 and len({group.mean(name) for group in groups}) == 1]


def shown_columns(groups: list[Group], among=None) -> list[tuple]:
    """The entries of COLUMNS, in their order, that any of the groups has; only those ``among``, if given, else without sizes that
    are the same in all rows.

    Agreement on probe images is in a short table only where an accuracy is missing.
    """
    columns = [column for column in COLUMNS if any(group.mean(column[0]) is not None for group in groups)]
    if among is None:
        return [column for column in columns if column[0] not in equal_sizes(groups)]
    labelled = all(run.has_labels for group in groups for run in group.runs)
    return [column for column in columns if column[0] in among and not (labelled and column[0] in WITHOUT_LABELS)]


def baseline(groups: list[Group]) -> Group | None:
    """The real-data group among those of one data set, teacher and student; not balanced, where there is a choice."""
    real = [group for group in groups if group.runs[0].origin == "real"]
    return min(real, key=lambda group: (group.specs["balance"] != "none", *group.specs.values()), default=None)


def csv_cell(value):
    """A value for a CSV file; text that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def to_csv(runs: list[Run]) -> str:
    """One line per run: specs, label, origin, all scalar metrics; plain decimals."""
    numbers = [dict(run.numbers()) for run in runs]
    names = sorted({name for row in numbers for name in row}, key=_place)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*spec.GROUPS, "label", "origin", *names])
    for run, row in zip(runs, numbers):
        table.writerow([*run.specs.values(), csv_cell(run.label), run.origin, *(row.get(name, "") for name in names)])
    return text.getvalue()


def to_summary(runs: list[Run]) -> str:
    """The sweep in a few numbers, as JSON: how many runs, and the mean over them of each metric of COLUMNS that all have."""
    whole = Group({}, runs)
    means = {name: whole.mean(name) for name, *_ in COLUMNS}
    summary = {"runs": len(runs), **{name: round(mean, 6) for name, mean in means.items() if mean is not None}}
    return json.dumps(summary, indent=1, sort_keys=True) + "\n"


def to_text(groups: list[Group]) -> str:
    """The result table for a terminal."""
    names = shown_columns(groups, ("top1", "miou", "gap", "agreement", "agreement_miou", *WITHOUT_LABELS))
    rows = [[*spec.GROUPS, "origin", "runs", *(heading for _, heading, *_ in names)]]
    for group in groups:
        cells = [group.text(name, digits) for name, _, digits, _ in names]
        rows.append([*group.specs.values(), group.runs[0].badge, str(len(group.runs)), *cells])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
