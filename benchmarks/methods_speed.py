"""Every method on one thread: seconds a round (or a batch), and the share of the machine's convolution rate that its parts reach.

    python benchmarks/methods_speed.py [--teacher wrn40-2] [--student wrn16-1] [--precision fp32] [--steps 12] [SPEC ...]

SPEC is a transfer spec as in a path, e.g. `fast-5+views_kept=4`; without any, one preset of each method. The teacher has random
weights and images are 32 x 32 (28 x 28 for lenet5). A round is timed with --steps student steps (or turns) and with twice as
many, and one with all is reckoned from these two. Rates are floating-point operations a second, counted by PyTorch's own
counter, over that of a 3 x 3 convolution of 128 channels in the same precision on the same thread, the best of many calls.
"""

import argparse
import contextlib
import dataclasses
import math
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from dfkd_steps.methods import registry as method_registry
from dfkd_steps.methods.engines import alternating, model_inversion
from dfkd_steps.models.classifier import Classifier, Description, build_architecture
from dfkd_steps.pipeline import params
from dfkd_steps.runtime import device
from dfkd_steps.runtime.errors import UserError

DEFAULT = (
    "adi-cmi", "cmi", "dafl", "deepinversion", "dfad", "dfq-cmi", "fast-5", "fast-5+views_kept=4", "generative", "noise",
    "procedural", "soft-targeted", "ssd-kd", "zskd", "zskt",
)  # fmt: skip
CLASSES = tuple("0123456789")


def convolution_rate(precision: str) -> float:
    """Operations a second of a 3 x 3 convolution."""
    kind = torch.bfloat16 if precision == "bf16" and device.has_bf16("cpu") else torch.float32
    images = torch.randn(64, 128, 16, 16).to(kind, memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3).to(kind, memory_format=torch.channels_last)
    least = math.inf
    for _ in range(30):
        started = time.perf_counter()
        torch.nn.functional.conv2d(images, weight, padding=1)
        least = min(least, time.perf_counter() - started)
    return 2 * weight.numel() * 64 * 16**2 / least


def network(arch: str) -> Classifier:
    """A teacher with random weights."""
    torch.manual_seed(0)
    shape = (1, 28, 28) if arch.startswith("lenet5") else (3, 32, 32)
    described = Description("arch", arch, CLASSES, shape, (0.5,) * shape[0], (0.25,) * shape[0])
    classifier = Classifier(build_architecture(arch, 10, shape), described)
    with torch.no_grad():
        classifier.train()(torch.rand(64, *shape))  # BatchNorm statistics of something
    return classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def build(spec: str, teacher: Classifier, arguments, steps: int):
    """The method of a spec, with ``steps`` student steps or turns in a round, and how many a round of the spec has."""
    config = params.load("transfer", spec)
    known = {field.name for field in dataclasses.fields(config)}
    changes = {"student": arguments.student, "precision": arguments.precision, "warmup": 0, "tolerance": 0.0}
    long = next((name for name in ("turns", "steps_s") if name in known), None)
    if long:
        changes[long] = steps
    elif "rounds_each" not in known:
        changes |= {"n": config.batch, "steps": min(steps, getattr(config, "steps", 1))}
    whole = getattr(config, long) if long else steps
    config = dataclasses.replace(config, **{name: value for name, value in changes.items() if name in known})
    return method_registry.load(config.method)(config, teacher, [], torch.device("cpu")), whole


def measured(method, unit) -> dict[str, float]:
    """Seconds and operations of one call of a method's ``round`` or ``batch``, and of the student's part in it."""
    costs = {"seconds": 0.0, "operations": 0.0, "student seconds": 0.0, "student operations": 0.0}
    train_student, counting = model_inversion.train_student, False

    def watch(call):
        def watched(*values, **named):
            started = time.perf_counter()
            with FlopCounterMode(display=False) if counting else contextlib.nullcontext() as counter:
                result = call(*values, **named)
            if counting:
                costs["student operations"] += counter.get_total_flops()
            else:
                costs["student seconds"] += time.perf_counter() - started
            return result

        return watched

    if isinstance(method, alternating.AlternatingTraining):
        method.student_steps = watch(method.student_steps)
    model_inversion.train_student = watch(train_student)
    unit(0)  # warm
    costs["student seconds"] = 0.0
    started = time.perf_counter()
    unit(min(1, method.rounds))
    costs["seconds"] = time.perf_counter() - started
    counting = True
    with FlopCounterMode(display=False) as counter:
        unit(min(2, method.rounds))
    costs["operations"] = counter.get_total_flops()
    model_inversion.train_student = train_student
    return costs


def row(spec: str, arguments, peak: float) -> str:
    """One line of the table: a round with few steps and one with twice as many, and from these one with all."""
    parts = []
    for steps in (arguments.steps, 2 * arguments.steps):
        method, whole = build(spec, network(arguments.teacher), arguments, steps)
        parts.append(measured(method, method.round if method.rounds else method.batch))
    few, many = parts
    scale = (whole - arguments.steps) / arguments.steps if method.rounds else 0.0
    total = {name: few[name] + scale * (many[name] - few[name]) for name in few}
    images = total["seconds"] - total["student seconds"]
    cells = [spec, "round" if method.rounds else f"batch of {method.config.batch}", f"{total['seconds']:.2f}", f"{images:.2f}"]
    cells.append(f"{total['student seconds']:.2f}")
    operations = total["operations"] - total["student operations"]
    cells.append(f"{operations / images / peak:.0%}")
    student = total["student seconds"]
    cells.append(f"{total['student operations'] / student / peak:.0%}" if student else "–")
    return f"| {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="wrn40-2")
    parser.add_argument("--student", default="wrn16-1")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=12, help="student steps, or turns, or steps of pixels, that are run")
    parser.add_argument("specs", nargs="*", default=DEFAULT, metavar="SPEC")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    device.keep_memory()
    peak = convolution_rate(arguments.precision)
    print(
        f"one thread, {arguments.precision}, {arguments.teacher} -> {arguments.student}; convolution: {peak / 1e9:.0f} Gflop/s\n"
    )
    print("| method | unit | s | s images | s student | share images | share student |\n|---|---|---|---|---|---|---|")
    for spec in arguments.specs:
        try:
            print(row(spec, arguments, peak), flush=True)
        except UserError as error:
            print(f"| {spec} | {error} | | | | | |", flush=True)


if __name__ == "__main__":
    main()
