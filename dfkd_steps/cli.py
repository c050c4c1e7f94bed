"""The console command ``dfkd``: inspect methods, configs and artefacts.

Heavy imports stand in the commands that need them, so that ``dfkd --help`` answers at once.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from .models.tasks import void_label
from .reporting.listing import LISTS, table
from .runtime.commands import guarded, version

HERE = Path(__file__).parent


def parser() -> argparse.ArgumentParser:
    """The command line of ``dfkd``."""
    text = "Data-free knowledge distillation: inspect methods, configs and artefacts. Snakemake or DVC runs the pipeline itself."
    top = argparse.ArgumentParser(prog="dfkd", description=text)
    top.add_argument("--version", action="store_true", help="print the version of the installed package and exit")
    top.set_defaults(run=lambda given: print(f"dfkd {version()}") if given.version else top.print_help())
    commands = top.add_subparsers(title="commands", metavar="COMMAND")

    command = commands.add_parser("list", help="list methods, models, config fields or files in params/",
                                  description="List the available items, one per line.")  # fmt: skip
    command.add_argument("what", choices=LISTS, help="fields: every config field of every kind, as Markdown")
    command.set_defaults(run=lambda given: LISTS[given.what]())

    command = commands.add_parser("inspect", help="print what an artefact contains and how it was made",
                                  description="Print what an artefact contains and how it was made.")  # fmt: skip
    command.add_argument("file", metavar="FILE", help="transfer_set.h5, dataset.h5, *.safetensors or metrics.json")
    command.add_argument("--png", metavar="OUT", help="also write a grid of samples, one row per class")
    command.set_defaults(run=inspect)

    text = "Read a whole artefact. Prints what is wrong and exits with 1, or prints 'ok'."
    command = commands.add_parser("verify", help="check an artefact from end to end", description=text)
    command.add_argument("file", metavar="FILE", help="transfer_set.h5, dataset.h5, *.safetensors or metrics.json")
    command.set_defaults(run=verify)

    text = "Print the finished, current runs of sweeps as a table, with wall-clock seconds from logs/. Runs no jobs."
    command = commands.add_parser("table", help="print the finished runs of sweeps as Markdown, CSV or LaTeX", description=text)
    command.add_argument("sweeps", metavar="SWEEP", nargs="*", help="params/sweeps/NAME.yaml (default: params/experiment.yaml)")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="one line per run, with the commit of this checkout and the run's key")
    text = "CSV: accuracy of students with snapshots after fewer images, with the seconds until then"
    form.add_argument("--curves", action="store_true", help=text)
    form.add_argument("--latex", action="store_true", help="one LaTeX table of all the sweeps (package booktabs)")
    command.set_defaults(run=show_table)

    text = "Evaluate a finished student, or its exported files, on other images, alongside its teacher. Writes no files."
    command = commands.add_parser("evaluate", help="evaluate a finished student on other images", description=text)
    command.add_argument("student", metavar="STUDENT", type=Path, help="student.safetensors, an .onnx file or a folder export/")
    text = (
        "a folder of images (or with one folder per class; for segmentation with images/ and masks/), an .npz or a dataset.h5 "
        "(default: the test images of its path)"
    )
    command.add_argument("--images", metavar="IMAGES", type=Path, help=text)
    text = (
        "the label of void pixels in masks, which have no class (default: that of the data set in its path; 255 is always void)"
    )
    command.add_argument("--void", metavar="N", type=void_label, help=text)
    command.add_argument("--teacher", metavar="FILE", type=Path, help="teacher.safetensors (default: that of its path)")
    command.set_defaults(run=evaluate)

    text = "Write the images of a transfer set as PNG files, in one folder per class, with a labels.csv."
    command = commands.add_parser("export-set", help="write a transfer set as PNG files, for other programs", description=text)
    command.add_argument("file", metavar="FILE", help="transfer_set.h5")
    command.add_argument("--png", metavar="DIR", type=Path, required=True, help="a folder that is empty or does not exist")
    command.set_defaults(run=export_set)

    text = "Print a sweep with its seeds and shadows expanded into literal lists, which DVC needs in params/experiment.yaml."
    command = commands.add_parser("sweep", help="print a sweep as literal lists, or write them to params/experiment.yaml",
                                  description=text)  # fmt: skip
    command.add_argument("sweep", metavar="SWEEP", help="params/sweeps/NAME.yaml")
    text = "write them to params/experiment.yaml instead, which stays as it was if the sweep is wrong"
    command.add_argument("--write", action="store_true", help=text)
    command.set_defaults(run=show_sweep)

    text = "Attack the teachers and students of a sweep with shadows: which canaries were they trained on? Runs no jobs."
    command = commands.add_parser("leak", help="membership-inference attack on a sweep's teachers and students", description=text)
    command.add_argument("sweep", metavar="SWEEP", help="params/sweeps/NAME.yaml with shadows: NUMBER (docs/leak.md)")
    command.add_argument("--csv", action="store_true", help="all figures, one line per kind of model")
    command.set_defaults(run=leak)

    commands.add_parser("audit", help="list the artefacts that are not current")
    commands.add_parser("new", help="write the params files for a teacher without data, after inspecting the teacher")

    text = "Print each field of the resolved config: value, origin, allowed values, meaning."
    command = commands.add_parser("spec", help="print the resolved config of a spec or a path", description=text)
    text = "dataset, teacher, transfer, balance or student; needed if two groups have the name"
    command.add_argument("group", metavar="GROUP", nargs="?", help=text)
    command.add_argument("spec", metavar="SPEC", help="NAME+key=value..., or the path of an artefact: results/.../metrics.json")
    command.set_defaults(run=show_spec)
    return top


def main(argv=None) -> int:
    """Run a command; returns the exit code: 0, 1 = something is wrong with a file, 2 = bad input."""
    argv = sys.argv[1:] if argv is None else argv
    if (checkout := other_checkout()) is not None:
        paths = os.pathsep.join([str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "dfkd_steps.cli", *map(str, argv)]
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False).returncode
    # These have command lines of their own, which argparse would not pass on as they are (REMAINDER takes no leading option).
    run = {"audit": audit, "new": new}.get(argv[0]) if argv else None
    given = argparse.Namespace(run=run, rest=argv[1:]) if run else parser().parse_args(argv)
    return guarded("dfkd", lambda: given.run(given))


def other_checkout() -> Path | None:
    """The working directory, if it has a dfkd_steps/ of its own: its steps run that code, so it has to judge their files too."""
    here, package = Path.cwd(), Path("dfkd_steps")
    return here if package.joinpath("cli.py").is_file() and Path("params").is_dir() and not package.samefile(HERE) else None


def inspect(given):
    """dfkd inspect FILE [--png OUT]"""
    from .reporting import inspect

    lines = inspect.summary(given.file)
    if given.png:  # before anything is printed: whoever reads that may have seen enough soon, as head has
        inspect.write_grid(given.file, given.png)
        lines += ["", f"wrote {given.png}"]
    print("\n".join(lines))


def verify(given) -> int:
    """dfkd verify FILE"""
    from .storage import verify

    problems = verify.verify(given.file)
    for problem in problems:
        print(f"{given.file}: {problem.removeprefix(f'{given.file}: ')}")
    if not problems:
        print("; ".join(filter(None, [f"ok: {given.file}", verify.unseen(given.file)])))
    return 1 if problems else 0


def evaluate(given):
    """dfkd evaluate STUDENT [--images IMAGES] [--void N] [--teacher FILE]"""
    from .reporting import other_images, other_maps
    from .runtime import device

    device.setup_process(uses_gpu=False)
    measured = other_images.measure(given.student, given.images, given.teacher, given.void)
    for place, lines in enumerate(filter(None, (other_images.rows(measured), other_maps.class_rows(measured)))):
        print("\n" * place, end="")
        table(lines[1:], lines[0])


def export_set(given):
    """dfkd export-set FILE --png DIR"""
    from .reporting import export_set

    print(f"wrote {export_set.write_png(given.file, given.png)} images to {given.png}")


def leak(given):
    """dfkd leak SWEEP [--csv]"""
    from .pipeline import sweep
    from .reporting import leak, tables
    from .runtime import device

    device.setup_process()
    finals = sweep.finals(sweep.read(given.sweep))
    done = leak.finished(finals)
    lacking = tables.missing(given.sweep, finals, done)
    attacks = leak.rows(finals, done, lacking)
    if given.csv:
        print(leak.to_csv(attacks), end="")
    else:
        head, *rows = leak.cells(attacks)
        table(rows, head)
        print(f"\n{leak.MEANING}")
    print("".join(f"{line}\n" for line in (leak.too_few(attacks), lacking) if line), end="", file=sys.stderr)


def audit(given) -> int:
    """dfkd audit [-v] [PATH...]"""
    from .pipeline import audit

    return audit.main(given.rest)


def new(given):
    """dfkd new NAME --teacher ... --student ..."""
    from . import new

    return new.main(given.rest)


def show_spec(given):
    """dfkd spec [GROUP] SPEC, or the path of an artefact."""
    from .reporting import spec_view

    spec_view.show(given.group, given.spec)


def show_table(given):
    """dfkd table [--csv | --curves | --latex] [SWEEP...]"""
    from .pipeline import sweep
    from .reporting import tables

    sweeps = {path: sweep.finals(sweep.read(path)) for path in given.sweeps or [sweep.EXPERIMENT]}
    current = {path: tables.current(finals) for path, finals in sweeps.items()}
    missing = [tables.missing(path, sweeps[path], current[path]) for path in sweeps]
    if given.csv or given.curves or given.latex:
        runs = list({run.path: run for runs in current.values() for run in runs}.values())
        form = tables.latex if given.latex else tables.curves_csv if given.curves else tables.to_csv
        print(form(runs), end="\n" if given.latex else "")
        print("".join(f"{line}\n" for line in missing if line), end="", file=sys.stderr)
        return
    for (path, runs), line in zip(current.items(), missing):
        parts = [f"## {path}" if len(sweeps) > 1 else "", tables.markdown(runs) if runs else "", line]
        print("\n\n".join(filter(None, parts)), end="\n\n" if len(sweeps) > 1 else "\n")


def show_sweep(given):
    """dfkd sweep SWEEP [--write]"""
    from .pipeline import sweep

    if given.write:
        sweep.write_literal(given.sweep)
        print(f"wrote {sweep.EXPERIMENT}")
    else:
        print(sweep.to_yaml(given.sweep), end="")


if __name__ == "__main__":
    sys.exit(main())
