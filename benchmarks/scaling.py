"""What the drivers cost on sweeps of 10, 100 and 1,000 final targets: seconds of each command, when there is nothing to do.

    python benchmarks/scaling.py [--sizes 10 100 1000] [--folder DIR] [--no-dvc]

The files of a sweep are stand-ins, written here in a moment: each carries the key that its path, params/ and the code ask
for, so both drivers and the audit take it for current, but nothing was computed.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dfkd_steps.pipeline import sweep

COPIED = ("dfkd_steps", "params", "workflow", "dvc.yaml", ".dvcignore", ".gitignore", "pyproject.toml")
# Lists of this many specs multiply to so many final targets.
LISTS = {10: (1, 1, 5, 1, 2), 100: (1, 2, 5, 2, 5), 1000: (2, 2, 10, 5, 5)}
NAMES = {"dataset": "mnist-5k", "teacher": "lenet5", "transfer": "noise", "balance": "equal", "student": "lenet5-half"}
METRICS = {"top1": 90.0, "teacher_top1": 99.0, "n_test": 20, "classes": list("0123456789"), "per_class": [90.0] * 10,
           "confusion_matrix": [[2] * 10] * 10, "provenance": []}  # fmt: skip
LABEL = {"label": "noise", "origin": "data-free", "classes": list("0123456789")}


def checkout(folder: Path, size: int):
    """A copy of the repository with a sweep of this size, in git and DVC."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)
    lists = {group: [f"{NAMES[group]}+seed={seed + 1}" for seed in range(number)] for group, number in zip(NAMES, LISTS[size])}
    (folder / "params/experiment.yaml").write_text(json.dumps(lists | {name: [] for name in sweep.OPTIONAL}, indent=1))
    for command in ("git init -q", "dvc init -q", "dvc config core.analytics false"):
        run(folder, *command.split())


def run(folder, *command) -> tuple[float, float]:
    """Seconds a command takes, by the clock and of a processor; it has to succeed."""
    environment = {**os.environ, "PYTHONPATH": "", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime


def fill() -> int:
    """Stand-ins for every file of the sweep in the working folder; returns how many jobs make them."""
    import numpy as np
    import torch

    from dfkd_steps import report
    from dfkd_steps.models.classifier import Description
    from dfkd_steps.pipeline import audit, graph, keys
    from dfkd_steps.storage import atomic, dataset_file, network_file
    from dfkd_steps.storage.transfer_set import Layout, Writer

    images, labels = np.zeros((20, 1, 4, 4), np.uint8), np.arange(20) % 10
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    table, net = network_file.history_csv([]), torch.nn.Linear(1, 1)
    description = Description("arch", "lenet5", tuple("0123456789"), (1, 28, 28), (0.1,), (0.3,))
    logits = np.eye(10, dtype=np.float32)[labels]
    finals = sweep.finals(sweep.read())
    jobs = audit.lineage(finals)
    for path in map(Path, jobs):
        path.parent.mkdir(parents=True, exist_ok=True)
        step, key = graph.step_of(path), keys.expected_key(str(path))
        if step == "dataset":
            dataset_file.write(path, key, {}, "0123456789", arrays)
        elif step in audit.NETWORKS:
            path.with_name(audit.HISTORY).write_bytes(table)
            network_file.save(path, net, description, key, {}, history_sha256=network_file.sha256(table))
        elif step == "evaluate":
            atomic.write_json(path, METRICS | {"key": key, "specs": path.parts[1:-1]})
        else:
            writer = Writer(path, key, Layout((1, 4, 4), 10, targets=False), 20)
            writer.append(images=images, logits=logits, labels=labels, round=np.zeros(20))
            writer.finish({}, LABEL)
    report.report(Path("report/index.html"), finals)
    return len(jobs) + 1


def measure(folder: Path, size: int, dvc: bool):
    """Print the seconds of each command on a sweep."""
    checkout(folder, size)
    said = {"snakemake -n, nothing made": run(folder, "snakemake", "-n", "-q", "all")}
    filled = subprocess.run([sys.executable, Path(__file__), "--fill"], cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)},
                            text=True, stdout=subprocess.PIPE, check=True)  # fmt: skip
    jobs = int(filled.stdout.split()[-1])
    said["snakemake -n, all made"] = run(folder, "snakemake", "-n")
    said["snakemake, nothing to do"] = run(folder, "snakemake")
    said["snakemake -n, one target"] = run(folder, "snakemake", "-n", first(folder))
    said["dfkd audit"] = run(folder, sys.executable, "-m", "dfkd_steps.cli", "audit")
    if dvc:
        run(folder, "dvc", "repro", "-q", "resolve")
        said["dvc commit -f"] = run(folder, "dvc", "commit", "-q", "-f")
        said["dvc status"] = run(folder, "dvc", "status")
        said["dvc repro, nothing to do"] = run(folder, "dvc", "repro")
        said["dvc status of one stage"] = run(folder, "dvc", "status", "report")
    print(f"{size} final targets, {jobs} distinct jobs ({size * 6 + 1} without shared prefixes)")
    for what, seconds in said.items():
        show(what, seconds)


def show(what, seconds):
    """A line of the table."""
    print(f"  {what:28} {seconds[0]:7.1f} s by the clock {seconds[1]:7.1f} s of a processor", flush=True)


def first(folder) -> str:
    """The first metrics.json of a sweep."""
    return str(min(path.relative_to(folder) for path in (folder / "results").rglob("metrics.json")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(LISTS), choices=LISTS)
    parser.add_argument("--folder", help="where the sweeps are made (default: a temporary folder)")
    parser.add_argument("--no-dvc", action="store_true")
    parser.add_argument("--fill", action="store_true", help="only write the stand-ins of the sweep in the working folder")
    given = parser.parse_args()
    if given.fill:
        print(fill())
        return
    show("import torch", run(".", sys.executable, "-c", "import torch"))
    show("snakemake --version", run(".", "snakemake", "--version"))
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for size in given.sizes:
            (Path(folder) / str(size)).mkdir()
            measure(Path(folder) / str(size), size, not given.no_dvc)


if __name__ == "__main__":
    main()
