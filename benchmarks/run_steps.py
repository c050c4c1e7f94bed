"""Targets made step by step, in one place and within some time, on a machine that has torch but no Snakemake.

    python benchmarks/run_steps.py [--seconds 540] [--keep FOLDER] TARGET... | SWEEP.yaml...

Makes what is missing or not current, as Snakemake does, one step after the other, those of the first target first, and prints the
wall-clock seconds of each step that was run. When the time is over, the running step is sent SIGTERM; it has its checkpoints, so
that the same command goes on. Ends with the accuracy of each metrics.json. --keep: copies networks, histories, metrics and logs
there, but no images.
"""

import argparse
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from dfkd_steps.pipeline import audit, graph, sweep
from dfkd_steps.runtime import commands
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.storage import atomic

KEPT = ("*.safetensors", "history.csv", "metrics.json")


def targets_of(names: list[str]) -> list[str]:
    """Artefacts themselves, and of a sweep's file its metrics."""
    return [path for name in names for path in (sweep.finals(sweep.read(name)) if name.endswith(".yaml") else [name])]


def make(path: str, seconds: float | None) -> bool:
    """Run the step of an artefact; False where the time was over. Raises UserError, with the step's last line, where it fails."""
    log = graph.log_of(path)
    log.parent.mkdir(parents=True, exist_ok=True)
    Path(path).unlink(missing_ok=True)  # what is not current, as a driver does
    command = [sys.executable, "-m", f"dfkd_steps.{graph.step_of(path)}", path, *map(str, graph.inputs_of(path))]
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as step:
        try:
            code = step.wait(seconds)
        except subprocess.TimeoutExpired:
            step.terminate()  # a step ends between two of its batches or steps
            return False
    if code:
        raise UserError(f"{path}: its step failed (code {code}): {(log.read_text().splitlines() or [''])[-1]}")
    return True


def keep(folder: Path):
    """Copy what is small of results/, and the logs."""
    for pattern in KEPT:
        for path in Path("results").rglob(pattern):
            if not any(part.startswith(".") for part in path.parts):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / path)
    if Path("logs").is_dir():
        shutil.copytree("logs", folder / "logs", dirs_exist_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    targets, ends = targets_of(arguments.targets), time.monotonic() + arguments.seconds
    paths = audit.lineage(targets)
    try:
        for path in paths:
            if Path(path).exists() and not audit.fault(path):
                continue
            began = time.monotonic()
            done = ends > began and make(path, None if ends == math.inf else ends - began)
            print(f"{time.monotonic() - began:8.0f} s  {path}{'' if done else ': the time is over'}", flush=True)
            if not done:
                break
    finally:
        if arguments.keep:
            keep(arguments.keep)
    for path in targets:
        if path.endswith("metrics.json") and Path(path).exists():
            metrics = atomic.read_json(path)
            print(f"{metrics.get('top1', metrics.get('miou'))} %  {path}")


if __name__ == "__main__":
    sys.exit(commands.guarded("run_steps", main))
