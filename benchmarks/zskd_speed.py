"""ZSKD on the CPU: samples x steps per second of the step's engine against a plain loop on the same network.

    python benchmarks/zskd_speed.py [--threads 2] [--repeats 3]

The plain loop is what public code does: contiguous fp32, batch 100, a backward pass that also computes the gradients of
the teacher's weights, PyTorch's own threads. Both run the same number of steps; nobody stops early. Interleaved, so that
a machine that slows down slows both.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from dfkd_steps import synthesize
from dfkd_steps.methods import zskd
from dfkd_steps.methods.engines import soft_targets
from dfkd_steps.models.classifier import Classifier, Description, build_architecture

SHAPE, CLASSES = (1, 28, 28), tuple("0123456789")


def plain(net, steps, batches, threads):
    """Samples x steps per second of the plain loop."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    for _ in range(batches):
        images = torch.rand(100, *SHAPE, requires_grad=True)
        targets = torch.softmax(torch.randn(100, 10) * 3, 1)
        adam = torch.optim.Adam([images], lr=0.05)
        for _ in range(steps):
            adam.zero_grad()
            soft_targets.soft_cross_entropy(net(images), targets, 20.0).mean().backward()
            adam.step()
    return 100 * batches * steps / (time.perf_counter() - started)


def ours(teacher, steps, count, precision, threads):
    """Samples x steps per second of the synthesize step's own path, batch 500."""
    os.environ["DFKD_THREADS"] = str(threads)
    config = zskd.ZSKDConfig(method="zskd", n=count, steps=steps, tolerance=0.0, precision=precision)
    method = zskd.ZSKD(config, teacher, [], torch.device("cpu"))
    torch.set_num_threads(1)
    started = time.perf_counter()
    for _ in synthesize.in_order(method, range(method.count())):
        pass
    return count * steps / (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    net = build_architecture("lenet5", 10, SHAPE).eval()
    description = Description("arch", "lenet5", CLASSES, SHAPE, (0.13,), (0.31,))
    frozen = build_architecture("lenet5", 10, SHAPE)
    frozen.load_state_dict(net.state_dict())
    teacher = Classifier(frozen, description).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    rates = {"plain": [], "fp32": [], "bf16": []}
    for _ in range(arguments.repeats):
        rates["plain"].append(plain(net, 40, 4, arguments.threads))
        for precision in ("fp32", "bf16"):
            rates[precision].append(ours(teacher, 40, 1000 * arguments.threads, precision, arguments.threads))
    for name, values in rates.items():
        ratio = statistics.median(value / base for value, base in zip(values, rates["plain"]))
        print(f"{name:6} {statistics.median(values):9.0f} samples x steps / s   {ratio:5.2f} x the plain loop")


if __name__ == "__main__":
    main()
