"""How well figures that need no label rank students by their true accuracy.

python benchmarks/without_labels.py [RESULTS [OUT]]      RESULTS: a results tree; OUT: the CSV to write

Reads every metrics.json that has both (evaluate measures students on probe images even where there are test images).
Spearman's rank correlation with top-1, for each data set and teacher; over all students, and over those of the data-free sets
alone. Beside OUT (NAME.csv): NAME-runs.csv, what it was computed from. ``figure`` in docs/make_figures.py draws that file.
"""

import csv
import io
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from dfkd_steps.reporting import runs

# Figure and sign: a smaller KL is better.
FIGURES = {"probe_agreement": 1, "probe_balanced": 1, "probe_kl": -1, "probe_ece": -1}
FEWEST = 5


def ranks(values) -> np.ndarray:
    """Ranks from 0; equal values have their mean rank."""
    values = np.asarray(values, float)
    order = np.argsort(values, kind="stable")
    ranked = np.empty(len(values))
    ranked[order] = np.arange(len(values))
    return np.array([ranked[values == value].mean() for value in values])


def spearman(first, second) -> float:
    """Rank correlation, -1 to 1; NaN where one of them is constant."""
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def correlations(kept: list[runs.Run]):
    """A row for each data set, teacher, choice of runs and figure."""
    for dataset, teacher in sorted({(run.specs["dataset"], run.specs["teacher"]) for run in kept}):
        of_teacher = [run for run in kept if (run.specs["dataset"], run.specs["teacher"]) == (dataset, teacher)]
        for choice, chosen in (("all", of_teacher), ("no real data", [run for run in of_teacher if run.origin != "real"])):
            if len(chosen) < FEWEST:
                continue
            truth = [run.metrics["top1"] for run in chosen]
            for name, sign in FIGURES.items():
                rank = spearman(truth, [sign * run.metrics[name] for run in chosen])
                yield [dataset, teacher, choice, name, len(chosen), f"{rank:.3f}"]


def to_csv(head, rows) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def main(results="results", out=None):
    """Print the correlations; write them and the runs where ``out`` is given."""
    read = runs.read(sorted(Path(results).glob("*/*/*/*/*/metrics.json")))
    kept = [run for run in read if run.has_labels and "probe_agreement" in run.metrics]
    table = to_csv(["dataset", "teacher", "runs", "figure", "n", "spearman"], correlations(kept))
    print(table, end="")
    if out:
        rows = [[*run.specs.values(), run.origin, run.metrics["top1"], *(run.metrics[name] for name in FIGURES)] for run in kept]
        head = ["dataset", "teacher", "transfer", "balance", "student", "origin", "top1", *FIGURES]
        Path(out).write_text(table)
        Path(out).with_name(f"{Path(out).stem}-runs.csv").write_text(to_csv(head, rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
