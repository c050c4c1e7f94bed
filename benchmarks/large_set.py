"""Memory and rate of every step on a transfer set that is larger than the memory it may take.

    python benchmarks/large_set.py FOLDER [--images 100000] [--side 224] [--memory 3] [--steps 300]

In FOLDER, which is made and needs room for two sets (100,000 images of 3x224x224 are 15 GB): uniform noise is made and answered,
balanced to equal classes, a student distilled from it; the set is looked at and verified, the student evaluated on probe images.
Each runs by its own command under DFKD_MEMORY, which the kernel enforces (RLIMIT_DATA). Memory is the peak of RssAnon, what the
process holds itself (Linux). Before a step the set is dropped from the page cache, so that it is read from the disk.

Teacher and student are networks of one convolution of patches (patch_net.py), since the steps are measured and not networks. The
teacher has random weights; its BatchNorm statistics and head are those of noise, so that it predicts its ten classes about
equally often.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import memory
import torch

from dfkd_steps.models import names
from dfkd_steps.models.classifier import Classifier, Description, build_network
from dfkd_steps.pipeline import graph, keys, params
from dfkd_steps.storage import network_file

NET = "factory.patch_net.net"


def teacher(path: Path, side: int):
    """The stand-in for a teacher, written to ``path``."""
    torch.manual_seed(0)
    shape, config = (3, side, side), params.load("dataset", path.parts[1])
    described = Description(*names.split(NET), tuple(config.names), shape, (0.5,) * 3, (0.29,) * 3)
    net = Classifier(build_network(described), described)
    with torch.no_grad():
        for _ in range(20):
            net.train()(torch.rand(16, *shape))
        logits = net.eval()(torch.rand(64, *shape))
        head = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]
        head.weight.mul_(2 / logits.std(0)[:, None])
        head.bias.copy_(2 * (head.bias - logits.mean(0)) / logits.std(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    table = network_file.sha256(network_file.history_csv([]))
    network_file.save(path, net.net, described, keys.expected_key(str(path)), {}, history_sha256=table)


def forget(path: Path):
    """Drop a file's pages from the page cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, default in (("images", 100_000), ("side", 224), ("memory", 3), ("steps", 300), ("batch", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--balance", default="equal")
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    os.chdir(given.folder)
    shutil.copytree(memory.ROOT / "params", "params")
    shutil.copy(memory.ROOT / "benchmarks/patch_net.py", ".")
    student = f"arch: {NET}\naugment: none\nbatch: {given.batch}\nepochs: 1\nsteps_per_epoch: {given.steps}\n"
    Path("params/student/patches.yaml").write_text(student)
    Path("params/teacher/patches.yaml").write_text(f"kind: train\narch: {NET}\n")
    specs = {
        "dataset": f"ten-of-imagenet+height={given.side}",
        "teacher": "patches",
        "transfer": f"noise+n={given.images}",
        "balance": given.balance,
        "student": "patches",
    }
    synthesized, balanced = (graph.path_of(step, specs) for step in ("synthesize", "balance"))

    def show(what: str, module: list[str], images: int, *dropped: Path):
        for path in dropped:
            forget(path)
        started = time.monotonic()
        megabytes, processor = memory.measured(module, DFKD_MEMORY=str(given.memory))
        seconds = time.monotonic() - started
        rate = images * 3 * given.side**2 / 1e6 / seconds
        print(f"{what:12} {megabytes:8.0f} {seconds:8.0f} {processor:8.0f} {images / seconds:9.0f} {rate:8.1f}", flush=True)

    def step(name: str, images: int, *dropped: Path):
        out = graph.path_of(name, specs)
        show(name, [f"dfkd_steps.{name}", str(out), *map(str, graph.inputs_of(out))], images, *dropped)

    print(f"{'':12} {'peak MB':>8} {'seconds':>8} {'CPU s':>8} {'images/s':>9} {'MB/s':>8}", flush=True)
    step("dataset", 0)
    teacher(graph.path_of("teacher", specs), given.side)
    step("synthesize", given.images)
    step("balance", given.images, synthesized)
    step("distill", given.steps * given.batch, balanced)
    for command in (["inspect"], ["inspect", "--png", "classes.png"], ["verify"]):
        show(" ".join(command[:2]), ["dfkd_steps.cli", command[0], str(balanced), *command[1:]], given.images, balanced)
    step("evaluate", 0)


if __name__ == "__main__":
    sys.exit(main())
