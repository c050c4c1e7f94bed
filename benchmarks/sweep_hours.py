"""The hours that each row of a sweep takes on a GPU or one thread of this machine, or its floating-point operations, from a few
steps of each part.

    python benchmarks/sweep_hours.py params/sweeps/resnet34-inside.yaml [--steps 2] [--precision bf16] [--operations]

One seed of each row: training the teacher, synthesis, and distillation where the student learns from a stored set. Networks have
random weights; images and classes are those of the sweep's first data set, as far as its config says, else those of CIFAR-10.
Hours of a round are reckoned as in `methods_speed.py`: CPU time of one thread, which other work on the machine stretches less
than the time by the clock. Operations are the same on every machine, however busy it is.
"""

import argparse
import copy
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
import methods_speed

from dfkd_steps.models import frozen, tasks
from dfkd_steps.models.classifier import new_classifier
from dfkd_steps.models.generator import build_generator
from dfkd_steps.pipeline import estimate, graph, params, sweep
from dfkd_steps.reporting.runs import without_seed
from dfkd_steps.runtime import commands, device
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.training import loop, student_losses, views

IMAGES = 50_000  # of CIFAR's training set, for a data set that does not say how many it has
SCALE = {"seconds": 3600, "operations": 1e15}  # of what the table has
UNIT = {"seconds": "hours", "operations": "10^15 operations"}


def cost_of(step, number: int, quantity: str) -> float:
    """Hours, as the fastest of some calls of a step after one that warms up takes them; or 10^15 operations of a call."""
    if quantity == "operations":
        with methods_speed.counter_of_operations() as counter:
            step()
        return counter.get_total_flops() / SCALE[quantity]
    least = math.inf
    step()
    for _ in range(number):
        started = methods_speed.now()
        step()
        least = min(least, methods_speed.now() - started)
    return least / SCALE[quantity]


def of_teacher(config, net, images: int, steps: int, quantity: str) -> float:
    """The cost of training a teacher like ``net`` on so many images; 0 for an import."""
    if config.kind != "train":
        return 0.0
    net, where, epoch = copy.deepcopy(net).requires_grad_(True), net.mean.device, images // config.batch
    optimizer, seen = loop.optimizer(net, config), torch.rand(config.batch, *net.description.image_shape, device=where)
    labels = torch.arange(config.batch, device=where) % net.description.num_classes

    def step():
        with device.autocast(where, config.precision):
            logits = net.train()(seen)
        loop.advance(net, optimizer, F.cross_entropy(logits.float(), labels), 0.0, config.clip)

    return cost_of(step, steps, quantity) * config.epochs * epoch


def of_student(config, transfer, teacher, taken: int, steps: int, quantity: str) -> float:
    """The cost of distillation; the teacher is asked in each step, and a generator where images are fresh. taken: images of a set
    that takes all images of a data set."""
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

    number = config.epochs * (config.steps_per_epoch or (transfer.n or taken) // config.batch)
    return cost_of(step, steps, quantity) * number


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", metavar="SWEEP")
    parser.add_argument("--steps", type=int, default=2, help="steps of each loop that are run")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="of all parts, in place of that of the specs")
    parser.add_argument("--operations", action="store_true", help="floating-point operations, in 10^15, in place of hours")
    arguments = parser.parse_args()
    quantity, steps = "operations" if arguments.operations else "seconds", arguments.steps

    def load(group: str, text: str):
        config = methods_speed.changed(params.load(group, text), snapshots=0)
        return methods_speed.changed(config, precision=arguments.precision) if arguments.precision else config

    where = methods_speed.prepare()
    swept = sweep.read(arguments.sweep)
    source = params.load("dataset", swept["dataset"][0])
    task, images = estimate.declared(source), estimate.training_images(source) or IMAGES
    if task.task != tasks.CLASSIFICATION:
        raise UserError(f"{arguments.sweep}: dataset {swept['dataset'][0]!r} is for segmentation, which is not measured here")
    classes = tuple(map(str, range(task.classes)))
    shape = task.image_shape if task.image_shape != estimate.CIFAR.image_shape else ()  # () = as the teacher has them
    print(f"{swept['dataset'][0]}: {images:,} images for training, {len(classes)} classes\n")
    specs = {group: list(dict.fromkeys(without_seed(group, text) for text in swept[group])) for group in ("transfer", "student")}
    print(f"| teacher | transfer set | student | {UNIT[quantity]}: teacher | transfer set | student |\n{'|---' * 6}|")
    for teacher_spec in swept["teacher"]:
        config = load("teacher", teacher_spec)
        teacher = methods_speed.network(config.arch, where, shape, classes)
        training = of_teacher(config, teacher, images, steps, quantity)
        for text in specs["transfer"]:
            transfer = load("transfer", text)
            taken = graph.sources(text, "own")  # images of a data set, which are only read
            run = {} if taken else methods_speed.run_of(transfer, teacher, steps, [quantity])
            for student_spec in specs["student"]:
                student = of_student(load("student", student_spec), transfer, teacher, images, steps, quantity)
                values = training, run.get(f"all {quantity}", 0.0) / SCALE[quantity], student
                cells = [teacher_spec, text, student_spec, *(f"{value:.3g}" for value in values)]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(commands.guarded("sweep_hours", main))
