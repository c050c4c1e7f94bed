"""Memory and time of every method, and of the steps after it, on images of ImageNet's size.

    python benchmarks/sizes.py [--side 224] [--classes 1000] [--images 8] [--memory 4] [--csv FILE] [--networks ...] [--only ...]

Each in a process of its own under DFKD_MEMORY, on one thread: the peak of its resident memory (PyTorch alone takes 0.3 GiB) and
the seconds of an image and step. Networks have random weights, which cost what trained ones do. Each method has the settings
of a preset but for its batches, which are --images, and its length: one round, of two steps each. A step of a method with
rounds is one of its generator or pixels, or one of its student. Evaluation is that of a whole student without test images: on
all probe images, as many at once as the memory allows. What does not fit says so in a line.
"""

import argparse
import csv
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

NETWORKS = ("torchvision.resnet18", "torchvision.mobilenet_v3_small", "timm.tf_efficientnet_lite0")
METHODS = (
    "noise", "procedural", "procedural+kind=scenes", "single-image", "mixture", "deepinversion", "zskd", "soft-targeted",
    "adi-cmi", "cmi", "fast-5", "nayer-100", "ssd-kd", "dafl", "dfad", "dfq-cmi", "zskt", "generative", "psaq",
)  # fmt: skip
STEPS = ("balance", "distill", "evaluate")
STUDENT = "resnet18"
METRICS = "results/dataset/teacher/single-image/none/student/metrics.json"  # a student that is measured on all kinds of probes
PHOTOGRAPH = str(ROOT / "docs/assets/ten-of-imagenet.jpg")
SHORT = {"steps": 2, "steps_s": 2, "steps_g": 1, "turns": 2, "rounds": 1, "rounds_each": 1, "members": 1, "warmup": 0}
FIELDS = ("network", "what", "peak GiB", "s an image and step", "why not")


def teacher(name: str, side: int, classes: int):
    """A teacher with random weights and BatchNorm statistics of something."""
    import torch

    from dfkd_steps.models.classifier import Description, new_classifier

    like = Description("arch", "x", tuple(map(str, range(classes))), (3, side, side), (0.5,) * 3, (0.5,) * 3)
    classifier = new_classifier(name, like, 0)
    with torch.no_grad():
        classifier.train()(torch.rand(4, *like.image_shape))
    return classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def of_method(spec: str, net, images: int):
    """What to time, and how many images and steps it has."""
    from dfkd_steps import synthesize
    from dfkd_steps.methods import registry
    from dfkd_steps.pipeline import params
    from dfkd_steps.storage.image_format import to_stored
    from dfkd_steps.training.predict import predict

    config = params.load("transfer", spec)
    known = {field.name for field in dataclasses.fields(config)}
    changes = {
        "n": images,
        "batch": images,
        "train_batch": images,
        "batch_s": images,
        "student": STUDENT,
        "images": PHOTOGRAPH,
        **SHORT,
    }
    config = dataclasses.replace(config, **{name: value for name, value in changes.items() if name in known})
    method = registry.load(config.method)(config, net, [], device())

    def work():
        for index in range(method.rounds):
            method.round(index)
        for batch in synthesize.in_order(method, range(method.count())):
            predict(net, to_stored(batch.images.float().cpu().numpy(), "uint8"), device())

    steps = sum(getattr(config, name, 0) for name in ("steps", "steps_s")) or 1
    return work, images * (getattr(config, "turns", steps) * 2 if "turns" in known else steps)


def device():
    import torch

    return torch.device("cpu")


def of_step(name: str, net, images: int, folder: Path):
    """What to time of a step, and how many images and steps it has."""
    import functools

    import numpy as np

    from dfkd_steps import balance, distill, evaluate
    from dfkd_steps.models.classifier import new_classifier
    from dfkd_steps.schemas import groups
    from dfkd_steps.storage.transfer_set import Layout, TransferSet, Writer
    from dfkd_steps.training.predict import predict

    described, rng = net.description, np.random.default_rng(0)
    layout = Layout(described.image_shape, described.num_classes, targets=False)
    stored = rng.integers(0, 256, (2 * images, *described.image_shape), np.uint8)
    logits = predict(net, stored, device())
    writer = Writer(folder / "transfer_set.h5", "k", layout, len(stored))
    writer.append(images=stored, logits=logits, labels=logits.argmax(1), round=np.zeros(len(stored)))
    writer.finish({}, {})
    transfer = TransferSet(folder / "transfer_set.h5")
    if name == "balance":  # nearly all classes are never predicted: one sample of each is pushed, in few steps
        config = groups.EqualBalance(mode="equal", per_class=1, push_steps=2, deficit="short")
        start = functools.partial(Writer, folder / "out.h5", "k", layout, resume=False)
        return lambda: balance.equal(config, net, transfer, start, device()), 2 * described.num_classes
    if name == "distill":
        config = groups.Student(arch=STUDENT, epochs=1, batch=images, augment="mild")
        return lambda: distill.distill(config, net, transfer, folder / "partial", "k", device()), len(stored)
    student, job = new_classifier(STUDENT, described, 0).eval(), types.SimpleNamespace(out=METRICS, inputs=["student", "teacher"])
    kinds = len(evaluate.probes.DRAW) + 1
    return lambda: evaluate.on_probes([student], net, job, device()), kinds * evaluate.probes.PER_KIND


def measure(what: str, network: str, side: int, classes: int, images: int):
    """Run one in this process; prints its figures as JSON."""
    from dfkd_steps.runtime import progress
    from dfkd_steps.runtime.commands import explain
    from dfkd_steps.runtime.device import setup_process

    progress.say = lambda text: None
    try:
        setup_process()
        net = teacher(network, side, classes)
        with tempfile.TemporaryDirectory() as folder:
            work, pieces = of_step(what, net, images, Path(folder)) if what in STEPS else of_method(what, net, images)
            started = time.perf_counter()
            work()
            seconds = time.perf_counter() - started
        figures = {"s an image and step": seconds / pieces, "why not": ""}
    except Exception as error:
        figures = {"s an image and step": "", "why not": explain(what, error).splitlines()[0]}
    figures["peak GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "linux" else 30))
    print(json.dumps(figures), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("side", 224), ("classes", 1000), ("images", 8), ("memory", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--only", nargs="+", default=(*METHODS, *STEPS), help="methods (transfer specs) and steps")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measure(*given.one, given.side, given.classes, given.images)
        return
    numbers = [text for name in ("side", "classes", "images") for text in (f"--{name}", str(getattr(given, name)))]
    environment = {**os.environ, "DFKD_MEMORY": str(given.memory), "DFKD_THREADS": "1", "DFKD_DEVICE": "cpu"}
    file = open(given.csv, "w", buffering=1) if given.csv else sys.stdout  # noqa: SIM115
    out = csv.DictWriter(file, FIELDS, lineterminator="\n")
    out.writeheader()
    for network in given.networks:
        for what in given.only:
            command = [sys.executable, __file__, *numbers, "--one", what, network]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
            row = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"why not": f"exit {done.returncode}"}
            row = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in row.items()}
            out.writerow({"network": network, "what": what, **row})


if __name__ == "__main__":
    main()
