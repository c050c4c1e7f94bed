"""The hours that each row of a sweep takes on a GPU or one thread of this machine, from a few steps of each part.

    python benchmarks/sweep_hours.py params/sweeps/resnet34-inside.yaml [--steps 2] [--precision bf16]

One seed of each row: training the teacher, synthesis, and distillation where the student learns from a stored set. Networks have
random weights and images are 32 x 32, 50,000 of them in an epoch of the teacher; hours of a round are reckoned as in
`methods_speed.py`: CPU time of one thread, which other work on the machine stretches less than the time by the clock.
"""

import argparse
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
import methods_speed

from dfkd_steps.models import frozen
from dfkd_steps.models.classifier import new_classifier
from dfkd_steps.models.generator import build_generator
from dfkd_steps.pipeline import graph, params, sweep
from dfkd_steps.reporting.runs import without_seed
from dfkd_steps.runtime import device
from dfkd_steps.training import loop, student_losses, views

IMAGES = 50_000  # of CIFAR's training set


def seconds_of(step, number: int) -> float:
    """The fastest of some calls of a step, after one that warms up."""
    least = math.inf
    step()
    for _ in range(number):
        started = methods_speed.now()
        step()
        least = min(least, methods_speed.now() - started)
    return least


def of_teacher(config, where, steps: int) -> float:
    """Hours of training a teacher; 0 for an import."""
    if config.kind != "train":
        return 0.0
    net = methods_speed.network(config.arch, where).requires_grad_(True)
    optimizer, images = loop.optimizer(net, config), torch.rand(config.batch, *net.description.image_shape, device=where)
    labels = torch.arange(config.batch, device=where) % net.description.num_classes

    def step():
        with device.autocast(where, config.precision):
            logits = net.train()(images)
        loop.advance(net, optimizer, F.cross_entropy(logits.float(), labels), 0.0, config.clip)

    return seconds_of(step, steps) * config.epochs * (IMAGES // config.batch) / 3600


def of_student(config, transfer, teacher, steps: int) -> float:
    """Hours of distillation; the teacher is asked in each step, and a generator where images are fresh."""
    if not config.epochs:
        return 0.0
    where = teacher.mean.device
    student = new_classifier(config.arch, teacher.description, 0).to(where, memory_format=torch.channels_last)
    optimizer, rng = loop.optimizer(student, config), torch.Generator(where).manual_seed(0)
    compare, images = student_losses.load(config.loss, config.tau, teacher.description), None
    answering = frozen.fast_copy(teacher, config.precision)
    if config.fresh:
        size = {"latent": transfer.latent, "width": transfer.width, "arch": getattr(transfer, "arch_g", "gdfd")}
        drawn = build_generator(teacher.description, **size, seed=0).to(where, memory_format=torch.channels_last).eval()
    else:
        images = torch.rand(config.batch, *teacher.description.image_shape, device=where)

    def step():
        inputs = views.view(config.augment, drawn.sample(config.batch, rng)[0] if images is None else images, rng)
        answers = frozen.logits(answering, inputs, config.precision)
        with device.autocast(where, config.precision):
            logits = student.train()(inputs)
        loop.advance(student, optimizer, compare(logits.float(), answers.float()).mean(), 0.0, config.clip)

    return seconds_of(step, steps) * config.epochs * (config.steps_per_epoch or transfer.n // config.batch) / 3600


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", metavar="SWEEP")
    parser.add_argument("--steps", type=int, default=2, help="steps of each loop that are run")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="of all parts, in place of that of the specs")
    arguments = parser.parse_args()

    def load(group: str, text: str):
        config = methods_speed.changed(params.load(group, text), snapshots=0)
        return methods_speed.changed(config, precision=arguments.precision) if arguments.precision else config

    where = methods_speed.prepare()
    swept = sweep.read(arguments.sweep)
    specs = {group: list(dict.fromkeys(without_seed(group, text) for text in swept[group])) for group in ("transfer", "student")}
    print("| teacher | transfer set | student | hours: teacher | transfer set | student |\n|---|---|---|---|---|---|")
    for teacher_spec in swept["teacher"]:
        config = load("teacher", teacher_spec)
        teacher, training = methods_speed.network(config.arch, where), of_teacher(config, where, arguments.steps)
        for text in specs["transfer"]:
            transfer = load("transfer", text)
            taken = graph.sources(text, "own") or not hasattr(transfer, "precision")
            hours = 0.0 if taken else methods_speed.run_of(transfer, teacher, arguments.steps, counted=False)["hours"]
            for student_spec in specs["student"]:
                student = of_student(load("student", student_spec), transfer, teacher, arguments.steps)
                cells = [teacher_spec, text, student_spec, *(f"{value:.2f}" for value in (training, hours, student))]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
