"""Peak anonymous memory and processor seconds of the steps balance and distill against the size of the transfer set.

    python benchmarks/memory.py [--sizes 10000 100000 1000000] [--folder DIR]

The set has the shape of MNIST (28x28 uint8, 10 classes) and is random; the teacher is an untrained LeNet-5. The steps are
run by their own commands, each in a process of its own. Memory is RssAnon of /proc/PID/status (Linux), read 50 times a
second: what the process holds itself. Pages of the mapped set are left out: the kernel takes them back when it needs room.
Distillation is cut down to 200 steps, since its memory does not depend on their number.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from dfkd_steps.models.classifier import Description, build_architecture
from dfkd_steps.pipeline import graph, keys
from dfkd_steps.storage import dataset_file, network_file
from dfkd_steps.storage.transfer_set import Layout, Writer

CHUNK = 500
BALANCE = ("none", "equal", "confident", "weight")
STUDENT = "lenet5-half+epochs=1+steps_per_epoch=200"


def teacher(specs) -> Path:
    """A stand-in for a teacher, and for its data set."""
    paths = [graph.path_of(step, specs) for step in ("dataset", "teacher")]
    paths[1].parent.mkdir(parents=True)
    images, labels = np.zeros((20, 1, 28, 28), np.uint8), np.arange(20) % 10
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    dataset_file.write(paths[0], keys.expected_key(str(paths[0])), {}, "0123456789", arrays)
    description = Description("arch", "lenet5", tuple("0123456789"), (1, 28, 28), (0.1,), (0.3,))
    table = network_file.history_csv([])
    network_file.save(paths[1], build_architecture("lenet5", 10, (1, 28, 28)), description, keys.expected_key(str(paths[1])), {},
                  history_sha256=network_file.sha256(table))  # fmt: skip
    return paths[1]


def transfer_set(specs, images: int):
    """A random set in the place of the synthesised one; classes are unequal, confidence is spread."""
    path, rng = graph.path_of("synthesize", specs), np.random.default_rng(0)
    path.parent.mkdir(parents=True)
    writer = Writer(path, keys.expected_key(str(path)), Layout((1, 28, 28), 10, targets=False), images)
    for number in range(images // CHUNK):
        pixels = rng.integers(0, 256, (CHUNK, 1, 28, 28), np.uint8)
        logits = (rng.normal(size=(CHUNK, 10)) * 4 + np.arange(10) / 50).astype(np.float32)
        writer.append(images=pixels, logits=logits, labels=logits.argmax(1), round=np.full(CHUNK, number))
    writer.finish({}, {"label": "random", "origin": "data-free"})


def peak(step: str, specs) -> tuple[float, float]:
    """Peak anonymous memory in MB and seconds of a processor of the step that makes a file."""
    out = graph.path_of(step, specs)
    return measured([f"dfkd_steps.{step}", str(out), *map(str, graph.inputs_of(out))])


def measured(module: list[str], **environment: str) -> tuple[float, float]:
    """Peak anonymous memory in MB and seconds of a processor of a module of dfkd run as a program, with its arguments."""
    command = [sys.executable, "-m", *module]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT), "DFKD_DEVICE": "cpu", **environment})
    ended, highest = 0, 0
    while not ended:
        time.sleep(0.02)
        held = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        highest = max(highest, int(held[1]) if held else 0)
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
    if status:
        sys.exit(f"{' '.join(command)}: failed")
    return highest / 1024, used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", help="where the sets are made (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        os.chdir(folder)
        Path("params").symlink_to(ROOT / "params")
        specs = {"dataset": "mnist-5k", "teacher": "lenet5", "student": STUDENT}
        teacher(specs | {"transfer": "noise", "balance": "none"})
        print(f"{'images':>8}  {'step':22} {'peak MB':>8} {'seconds':>8}")
        for images in given.sizes:
            here = specs | {"transfer": f"noise+n={images}"}
            transfer_set(here, images)
            for mode in BALANCE:
                show(images, f"balance {mode}", *peak("balance", here | {"balance": mode}))
            show(images, "distill", *peak("distill", here | {"balance": "none"}))


def show(images, step, megabytes, seconds):
    """A line of the table."""
    print(f"{images:8}  {step:22} {megabytes:8.0f} {seconds:8.1f}", flush=True)


if __name__ == "__main__":
    main()
