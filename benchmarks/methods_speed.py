"""Every method on a GPU or on one thread of a CPU: seconds a round (or a batch), the share of the machine's convolution rate
that its parts reach, and the hours of the whole run.

    python benchmarks/methods_speed.py [--teacher wrn40-2] [--student wrn16-1] [--precision fp32] [--steps 12] [SPEC ...]

SPEC is a transfer spec as in a path, e.g. `fast-5+views_kept=4`; without any, one preset of each method. The teacher has random
weights and images are 32 x 32 (28 x 28 for lenet5). A round is timed with --steps steps of each loop (of generator or pixels, of
the student, or turns) and with twice as many, and one with all is reckoned from these two. Rates are floating-point operations a
second, counted by PyTorch's own counter, over that of a 3 x 3 convolution of 128 channels in the same precision on the same
device, the best of many calls. DFKD_DEVICE and DFKD_COMPILE count as in a step.
"""

import argparse
import contextlib
import dataclasses
import math
import sys
import time
from pathlib import Path

import torch
from torch.utils import flop_counter, module_tracker

sys.path.insert(0, str(Path(__file__).parents[1]))
from dfkd_steps.methods import registry as method_registry
from dfkd_steps.methods.engines import alternating, model_inversion
from dfkd_steps.models import fused_convolutions
from dfkd_steps.models.classifier import Classifier, Description, build_architecture
from dfkd_steps.pipeline import params
from dfkd_steps.runtime import device
from dfkd_steps.runtime.errors import UserError

DEFAULT = (
    "adi-cmi", "cmi", "dafl", "deepinversion", "dfad", "dfq-cmi", "fast-5", "fast-5+views_kept=4", "generative", "mixture",
    "nayer-100", "noise", "procedural", "psaq", "soft-targeted", "single-image", "ssd-kd", "zskd", "zskt",
)  # fmt: skip
CLASSES = tuple("0123456789")
PHOTOGRAPH = str(Path(__file__).parents[1] / "docs/assets/ten-of-imagenet.jpg")
CALLS = 3  # of which the fastest counts: other work slows some of them down
QUANTITIES = ("seconds", "operations")  # what is measured of a round
LOOPS = ("turns", "steps", "steps_s")  # of a round or a batch, as config fields
HEAD = ("method", "length", "s a round", "s images", "s student", "share images", "share student", "hours")


def prepare() -> torch.device:
    """As a step is set up; on a CPU with one thread. Returns where it computes."""
    where = device.select_device()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = where.type == "cuda"  # as with DFKD_DETERMINISTIC=0
    device.keep_memory()
    return where


def now() -> float:
    """Seconds by the clock once a GPU has done what it was given; without one seconds of this process's one thread, which other
    work on the machine stretches less."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def changed(config, **changes):
    """The config with other values of those fields that it has."""
    known = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{name: value for name, value in changes.items() if name in known})


def fused_operations(image, *operands, out_shape, **_) -> int:
    """Floating-point operations of a convolution and what is fused into it (``models/fused_convolutions.py``); all are shapes."""
    weight = operands[1] if len(operands[1] or ()) == 4 else operands[0]  # behind what is added, if there is something
    return flop_counter.conv_flop_count(image, weight, out_shape)


class NoModules(module_tracker.ModuleTracker):
    """Tells no modules apart: its hooks end every ``torch.autograd.grad`` by what a module was given, e.g. images."""

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        pass


def counter_of_operations() -> flop_counter.FlopCounterMode:
    """PyTorch's counter, which knows the fused convolutions too."""
    known = {torch.ops.mkldnn._convolution_pointwise: fused_operations} if fused_convolutions.pointwise() else {}
    counter = flop_counter.FlopCounterMode(display=False, custom_mapping=known)
    counter.mod_tracker = NoModules()
    return counter


def convolution_rate(precision: str, where: torch.device) -> float:
    """Operations a second of a 3 x 3 convolution."""
    kind = torch.bfloat16 if precision == "bf16" and device.has_bf16(where.type) else torch.float32
    number = 64 if where.type == "cpu" else 4096
    images = torch.randn(number, 128, 16, 16, device=where).to(kind, memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3, device=where).to(kind, memory_format=torch.channels_last)
    least = math.inf
    for _ in range(30):
        started = now()
        torch.nn.functional.conv2d(images, weight, padding=1)
        least = min(least, now() - started)
    return 2 * weight.numel() * number * 16**2 / least


def network(arch: str, where: torch.device, shape=(), classes=CLASSES) -> Classifier:
    """A teacher with random weights, by default for images (1,28,28) or (3,32,32)."""
    torch.manual_seed(0)
    shape = shape or ((1, 28, 28) if arch.startswith("lenet5") else (3, 32, 32))
    described = Description("arch", arch, classes, shape, (0.5,) * shape[0], (0.25,) * shape[0])
    classifier = Classifier(build_architecture(arch, len(classes), shape), described)
    with torch.no_grad():
        classifier.train()(torch.rand(64, *shape))  # BatchNorm statistics of something
    return classifier.eval().requires_grad_(False).to(where, memory_format=torch.channels_last)


def shortened(config, steps: int):
    """The config with at most ``steps`` steps in each loop of a round or a batch."""
    short = {name: min(steps, getattr(config, name)) for name in LOOPS if hasattr(config, name)}
    images = {} if hasattr(config, "rounds") or hasattr(config, "rounds_each") else {"n": config.batch}
    return changed(config, warmup=0, tolerance=0.0, **short, **images)


def whole(number: int, few: float, many: float, steps: int) -> float:
    """What a loop of ``number`` steps costs, from what it costs with at most ``steps`` and with at most twice as many."""
    first, second = min(steps, number), min(2 * steps, number)
    return few + (number - first) / (second - first) * (many - few) if second > first else few


def measured(method, unit, quantities) -> dict[str, float]:
    """Of a call of a method's ``round`` or ``batch``, and of the student's part in it: its seconds, each the least of some calls,
    and its operations; those of the two that ``quantities`` has."""
    costs = {"seconds": 0.0, "operations": 0.0, "student seconds": 0.0, "student operations": 0.0}
    counting = False

    def watch(call):
        def watched(*values, **named):
            started = now()
            with counter_of_operations() if counting else contextlib.nullcontext() as counter:
                result = call(*values, **named)
            if counting:
                costs["student operations"] += counter.get_total_flops()
            else:
                costs["student seconds"] += now() - started
            return result

        return watched

    if isinstance(method, alternating.AlternatingTraining):
        method.student_steps = watch(method.student_steps)
    if isinstance(method, model_inversion.ModelInversion):
        method.train_student = watch(method.train_student)
    if bank := getattr(method, "discriminator", None):  # CMI's, which a run fills within its first rounds
        bank.written = len(bank.bank)
    unit(0)  # warm
    if "seconds" in quantities:
        parts = []
        for _ in range(CALLS):
            costs["student seconds"], started = 0.0, now()
            unit(min(1, method.rounds))
            parts.append((now() - started - costs["student seconds"], costs["student seconds"]))
        images, costs["student seconds"] = map(min, zip(*parts))
        costs["seconds"] = images + costs["student seconds"]
    if "operations" in quantities:
        counting = True
        with counter_of_operations() as counter:
            unit(min(2, method.rounds))
        costs["operations"] = counter.get_total_flops()
    return costs


def timed(config, teacher: Classifier, steps: int, quantities):
    """A method of this config with few steps, and what it costs with few and with twice as many."""
    costs, make = [], method_registry.load(config.method)
    for number in (steps, 2 * steps):
        method = make(shortened(config, number), teacher, [], teacher.mean.device)
        costs.append(measured(method, method.round if method.rounds else method.batch, quantities))
    return method, costs


def run_of(config, teacher: Classifier, steps: int, quantities=QUANTITIES) -> dict[str, float]:
    """Rounds (or batches) of a run; seconds and operations of it and, of a round, of the images and of the student."""
    method, costs = timed(config, teacher, steps, quantities)
    turns, run = getattr(config, "turns", 0), {"rounds": method.rounds or -(-config.n // config.batch)}
    quiet = getattr(config, "warmup", 0)  # rounds without a student, which may make more images
    more = config.batches_of(0) / config.batches_of(quiet) if quiet else 1
    rounds = run["rounds"] - quiet
    for name in quantities:
        of_student = [cost[f"student {name}"] for cost in costs]
        of_images = [cost[name] - cost[f"student {name}"] for cost in costs]
        run[name] = whole(turns or getattr(config, "steps", 1), *of_images, steps)
        run[f"student {name}"] = whole(turns or getattr(config, "steps_s", 1), *of_student, steps)
        run[f"all {name}"] = (more * quiet + rounds) * run[name] + rounds * run[f"student {name}"]
    return run


def row(spec: str, config, teacher: Classifier, steps: int, peak: float) -> str:
    """One line of the table."""
    run = run_of(config, teacher, steps)
    images, student = run["seconds"], run["student seconds"]
    unit = "rounds" if hasattr(config, "rounds") or hasattr(config, "rounds_each") else f"batches of {config.batch}"
    cells = [spec, f"{run['rounds']} {unit}", f"{images + student:.2f}", f"{images:.2f}", f"{student:.2f}"]
    cells += [f"{run['operations'] / images / peak:.0%}", f"{run['student operations'] / student / peak:.0%}" if student else "–"]
    return f"| {' | '.join([*cells, format(run['all seconds'] / 3600, '.1f')])} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="wrn40-2")
    parser.add_argument("--student", default="wrn16-1")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=12, help="steps of each loop of a round that are run")
    parser.add_argument("specs", nargs="*", default=DEFAULT, metavar="SPEC")
    arguments = parser.parse_args()
    where = prepare()
    peak = convolution_rate(arguments.precision, where)
    machine = "one thread" if where.type == "cpu" else device.device_name(where)
    print(
        f"{machine}, {arguments.precision}, {arguments.teacher} -> {arguments.student}; convolution: {peak / 1e9:.0f} Gflop/s\n"
    )
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    for spec in arguments.specs:
        try:
            changes = {"student": arguments.student, "precision": arguments.precision, "images": PHOTOGRAPH}
            config = changed(params.load("transfer", spec), **changes)
            print(row(spec, config, network(arguments.teacher, where), arguments.steps, peak), flush=True)
        except UserError as error:
            print(f"| {spec} | {error} | | | | | | |", flush=True)


if __name__ == "__main__":
    main()
