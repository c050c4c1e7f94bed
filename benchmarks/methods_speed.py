"""Every method on one thread: samples x steps per second, and the share of the machine's matrix-product rate that is.

    python benchmarks/methods_speed.py [--precision fp32] [--seconds 10] [METHOD ...]

The teacher is LeNet-5 on 28 x 28 where the method allows, else ResNet-20 on 32 x 32; settings are the defaults but for the
student, which is LeNet-5-Half or ResNet-8, and the view of ZSKD and soft-targeted, which is mild. A step of a method that
trains a student too counts the student's images. The rate is that of products of 1024 x 1024 matrices or of 3 x 3 convolutions in
the same precision, measured here, whichever is faster; operations are counted by PyTorch's own counter in one batch or turn.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from dfkd_steps.methods import registry as method_registry
from dfkd_steps.models.classifier import Classifier, Description, build_architecture
from dfkd_steps.runtime.errors import UserError

CLASSES = tuple("0123456789")
# One small unit of work: a batch of pixels for a few steps, a few turns of alternating training, a batch into a pool.
SMALL = {
    "steps": 5,
    "tolerance": 0.0,
    "rounds": 2,
    "warmup": 0,
    "turns": 1,
    "rounds_each": 1,
    "steps_s": 5,
    "n": 256,
    "batch": 256,
    "renew": 1.0,
}


def rate_of(operations: int, call) -> float:
    """Floating-point operations per second; the best of many calls, as others may be at work."""
    least = math.inf
    for _ in range(50):
        started = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - started)
    return operations / least


def product_rates(precision: str) -> tuple[float, float]:
    """Operations per second of a matrix product, and of a 3 x 3 convolution: another library, on a CPU, and in fp32 on this
    machine more than twice as fast, so that the product alone is no bound.
    """  # fmt: skip
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    one, other = torch.randn(2, 1024, 1024).to(kind)
    images = torch.randn(64, 128, 16, 16).to(kind, memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3).to(kind, memory_format=torch.channels_last)
    return (
        rate_of(2 * 1024**3, lambda: one @ other),
        rate_of(2 * weight.numel() * 64 * 16**2, lambda: torch.nn.functional.conv2d(images, weight, padding=1)),
    )


def network(arch, shape):
    """A teacher with random weights."""
    torch.manual_seed(0)
    described = Description("arch", arch, CLASSES, shape, (0.3,) * shape[0], (0.3,) * shape[0])
    return Classifier(build_architecture(arch, 10, shape), described).eval().requires_grad_(False)


def build(name: str, precision: str):
    """A method with its defaults, its teacher, and the name of that."""
    cls = method_registry.load(name)
    fields = cls.Config.__dataclass_fields__
    small = {key: value for key, value in SMALL.items() if key in fields}
    if "precision" in fields:
        small["precision"] = precision
    if "start" in fields:
        small["view"] = "mild"  # as in the presets; and the counter cannot follow pixels that enter a network as they are
    for teacher, student, shape in (("lenet5", "lenet5-half", (1, 28, 28)), ("resnet20", "resnet8", (3, 32, 32))):
        if "student" in fields:
            small["student"] = student
        try:
            made = network(teacher, shape).to(memory_format=torch.channels_last)
            return cls(cls.Config(method=name, **small), made, [], torch.device("cpu")), teacher
        except UserError:
            continue  # this teacher has no BatchNorm, the next one has
    raise SystemExit(f"{name}: no teacher for it")


def work(method, index: int) -> int:
    """One unit; returns the samples x steps it was."""
    config = method.config
    if not method.rounds:
        method.batch(0)
        return len(method.rows(0)) * getattr(config, "steps", 1)
    method.round(index % method.rounds)
    made = getattr(config, "train_batch", config.batch) * getattr(config, "steps_g", getattr(config, "steps", 1))
    return made + getattr(config, "steps_s", 0) * getattr(config, "batch_s", getattr(config, "train_batch", 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument(
        "methods", nargs="*", default=[name for name in method_registry.REGISTRY if name not in ("dataset", "mixture")]
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    product, convolution = product_rates(arguments.precision)
    peak = max(product, convolution)
    print(f"one thread, {arguments.precision}: Gflop/s: {product / 1e9:.0f} matrix product, {convolution / 1e9:.0f} convolution")
    print("| method | teacher | samples x steps / s | Gflop/s | share of the faster |\n|---|---|---|---|---|")
    for name in arguments.methods:
        method, teacher = build(name, arguments.precision)
        with FlopCounterMode(display=False) as counter:
            work(method, 0)
        done, index, started = 0, 1, time.perf_counter()
        while time.perf_counter() - started < arguments.seconds:
            done += work(method, index)
            index += 1
        seconds = time.perf_counter() - started
        rate = counter.get_total_flops() * (index - 1) / seconds
        print(f"| {name} | {teacher} | {done / seconds:,.0f} | {rate / 1e9:.1f} | {rate / peak:.0%} |", flush=True)


if __name__ == "__main__":
    main()
