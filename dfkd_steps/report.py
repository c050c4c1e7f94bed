"""Step report: all runs of a sweep as one self-contained page, with results.csv and summary.json beside it.

python -m dfkd_steps.report report/index.html METRICS...      METRICS: results/.../metrics.json, or @FILE with one path per line
"""

import argparse
import sys
from pathlib import Path

from .pipeline import audit, keys
from .reporting import page, runs
from .runtime.commands import expanded, guarded
from .runtime.errors import UserError
from .storage import atomic


def report(out: Path, metrics: list[str]):
    """Make the page, the CSV and the summary; print the table. UserError where a run is not current."""
    if out.suffix != ".html":
        raise UserError(f"{out}: is not an .html file; give a path like report/index.html")
    read = runs.read(metrics)
    refuse_stale([run.path for run in read])
    key = keys.report_key({str(run.path): run.metrics.get("key", "") for run in read})
    text = page.render(read, key=key)
    out.parent.mkdir(parents=True, exist_ok=True)
    # The page last: where it is, what is beside it is of the same sweep.
    for path, content in (("results.csv", runs.to_csv(read)), ("summary.json", runs.to_summary(read)), (out.name, text)):
        atomic.write(out.with_name(path), content.encode())
    print(runs.to_text(runs.grouped(read)), out, sep="\n")


def refuse_stale(metrics):
    """Raise UserError where a run is not what its path, params/ and the code give now.

    A preset that is edited while a sweep runs counts for the jobs that begin later: their figures would be averaged with those
    of the others as if they were repeats.
    """
    if faults := audit.stale(metrics):
        path, why = next(iter(faults.items()))
        raise UserError(
            f"{path}: {why} ({len(faults)} of {len(metrics)} runs of the report are not current; `dfkd audit -v` says why)"
        )


def main(argv=None) -> int:
    """Entry of the step; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dfkd_steps.report", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("out", metavar="OUT", type=Path, help="the page to write, e.g. report/index.html")
    parser.add_argument("metrics", metavar="METRICS", nargs="+", help="metrics.json files of the step evaluate, one per run")

    def work():
        # @FILE: one argument of a shell command is limited to 128 KiB, which some 700 paths fill.
        arguments = parser.parse_args(expanded(sys.argv[1:] if argv is None else argv))
        report(arguments.out, arguments.metrics)

    return guarded("report", work)


if __name__ == "__main__":
    sys.exit(main())
