"""What a job takes, from its config alone: bytes on disk and in memory, steps of training. What no machine has is refused.

Steps of a method are what its config says; fewer where a method ends earlier, and a lower bound where the size of a set is not
known. Images, classes and task are those of the teacher or data set where it is there, else those that the data set's config
declares, else of CIFAR.
"""

import contextlib
import functools
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..datasets import array_files, card, on_disk
from ..methods import registry
from ..models import tasks
from ..runtime import memory, passes, startup
from ..runtime.errors import UserError
from ..storage import atomic, dataset_file, network_metadata
from . import graph, params, spec

STEP_SECONDS, LONGEST = 1e-4, 10 * 365 * 86400  # no step is faster; ten years
BATCHES = ("batch", "train_batch", "batch_s")
FLOAT, HALF, LABEL, ROUND = 4, 2, 8, 4  # bytes of a number, one in float16, a sample's class, the round it was made in
PROBES, PROBES_OF_MAPS = 200, 24  # probe images of a kind (``training.probes``, ``evaluate``), which torch need not be loaded for
DENSE = ("masks", "drawn-shapes")  # sources whose labels are always maps


class Task(NamedTuple):
    """What the images of a job are: their shape (C,H,W), the number of classes, and what is predicted."""

    image_shape: tuple[int, ...]
    classes: int
    task: str = tasks.CLASSIFICATION

    @property
    def pixels(self) -> int:
        """Values of an image."""
        return math.prod(self.image_shape)

    @property
    def label(self) -> int:
        """Bytes of a label: a number, or for segmentation a byte a pixel."""
        return math.prod(self.image_shape[1:]) if self.task == tasks.SEGMENTATION else LABEL

    @property
    def logits(self) -> int:
        """Values that a network gives for an image."""
        return self.classes * (self.label if self.task == tasks.SEGMENTATION else 1)

    def sample(self, width: int = 1) -> int:
        """Bytes of a sample of a transfer set, ``width`` for each value of its image; segmentation stores no logits."""
        answers = 0 if self.task == tasks.SEGMENTATION else 2 * self.logits  # logits and targets
        return width * self.pixels + FLOAT * answers + self.label + ROUND


CIFAR, DIGITS = Task((3, 32, 32), 10), Task((1, 28, 28), 10)
# What data sets hold that say it nowhere, by their name or source.
NAMED = {
    **dict.fromkeys(("mnist-5k", "mnist", "fashion-mnist", "MNIST", "FashionMNIST", "KMNIST"), DIGITS),
    "EMNIST-letters": Task(DIGITS.image_shape, 26), "CIFAR100": Task(CIFAR.image_shape, 100),
    "drawn-shapes": Task(CIFAR.image_shape, 4),
}  # fmt: skip


def of_network(description) -> Task:
    """What the images of a network are, by its description."""
    return Task(tuple(description.image_shape), description.num_classes, description.task)


@dataclass(frozen=True)
class Estimate:
    """Samples that are written, bytes on disk, bytes that are held in memory at least beside PyTorch and networks, steps;
    ``pool``: those of ``memory`` that are images which a method holds all the time."""

    samples: int
    disk: int
    memory: int
    steps: int
    pool: int = 0

    def __str__(self):
        hours = self.steps * STEP_SECONDS / 3600
        parts = [f"{self.samples:,} samples" if self.samples else "", f"{size(self.disk)} on disk" if self.disk else ""]
        parts += [f"{self.steps:,} steps" if self.steps else "", f"at least {hours:,.0f} hours" if hours >= 1 else ""]
        held = f"at least {size(self.memory + startup.PYTORCH)} of memory" if self.memory else ""
        return ", ".join(filter(None, [*parts, held]))


def size(count: int) -> str:
    """A number of bytes for people, like 1.5 GiB."""
    unit = max(0, min(5, (count.bit_length() - 1) // 10))
    value = count / (1 << 10 * unit)
    return f"{format(value, ',.0f' if value >= 100 else '.3g')} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[unit]}"


def of_config(group: str, config, task: Task = CIFAR, before: int = 0) -> Estimate:
    """What a config's job takes, for images of ``task``; ``before``: samples of the set that it reads, 0 = unknown."""
    if group == "dataset":
        samples = training_images(config) + config.test
        disk, labels = samples * (task.pixels + task.label), samples * task.label
        # Images of a folder that memory should not hold lie on the disk until the data set is made.
        large = config.source in on_disk.FOLDERS and on_disk.is_large(disk)
        return Estimate(samples, disk * (2 if large else 1), labels if large else disk, 0)
    batch = max((getattr(config, name, 0) for name in BATCHES), default=0)
    if group in ("teacher", "student"):
        per_epoch = getattr(config, "steps_per_epoch", 0) or max(1, before // max(1, batch))  # whole batches alone
        held = (min(batch, before) if before else 1) * (task.pixels + task.logits) * FLOAT
        held += before * getattr(config, "views_kept", 0) * task.logits * HALF
        return Estimate(0, 0, held, getattr(config, "epochs", 0) * per_epoch)
    samples = getattr(config, "n", 0) or getattr(config, "per_class", 0) * task.classes or before
    row = task.sample({"float16": 2, "float32": 4}.get(getattr(config, "image_type", ""), 1))
    if group == "balance":
        return Estimate(samples, samples * row, min(samples, memory.drawn(task.image_shape)) * row, 0)
    held = max(min(config.batch, samples), *(getattr(config, name, 0) for name in BATCHES[1:]))
    width = getattr(config, "width", 0)  # of a generator, which begins with a dense layer
    weights = (getattr(config, "latent", 0) + task.classes) * width * 16 + 18 * width**2
    kept = getattr(config, "views_kept", 0) * task.logits * HALF  # the teacher's logits for views of a pooled image
    pool = config.images_held() * (task.pixels + kept)  # as uint8
    together = held * ((task.pixels + task.logits) * FLOAT + task.label)
    return Estimate(samples, samples * row, together + weights * FLOAT + pool, config.training_steps(), pool)


def training_images(config) -> int:
    """How many training images a data set has by its config or the head of its file; 0 = they do not say."""
    return config.train or getattr(config, "drawn", 0) or next(iter(_stored(config)), 0)


def _stored(config) -> tuple[int, ...]:
    """Number and shape of the training images in the file of a data set, where its head says them."""
    return array_files.images_in(Path(config.path).absolute()) if config.source == "npz" else ()


def of_measuring(task: Task, tested: int = 0, students: int = 1) -> Estimate:
    """What it takes to compare students with their teacher on probe images and then on ``tested`` images: those of two kinds and
    a pass of some, or the logits of each network for all images, of one network twice for a moment. Maps are only counted."""
    dense = task.task == tasks.SEGMENTATION
    rows, drawn = passes.passed(task.image_shape, task.classes if dense else 0), PROBES_OF_MAPS if dense else PROBES
    probed = 2 * drawn * task.pixels + min(rows, drawn) * (task.pixels + task.logits) * FLOAT
    answers = 0 if dense else tested * ((students + 2) * task.logits * FLOAT + LABEL)
    return Estimate(0, 0, max(probed, answers, min(rows, tested) * (task.pixels + task.logits) * FLOAT), 0)


def _tested(path) -> int:
    """The test images of the data set of an artefact; as its config says where it is not there."""
    specs = spec.of_path(path)
    with contextlib.suppress(UserError):
        return dataset_file.open_dataset(graph.path_of("dataset", specs, spec.root_of(path))).sizes["test"]
    return params.load("dataset", specs["dataset"]).test


def of_path(path) -> Estimate:
    """What the job takes that makes an artefact."""
    step, specs = graph.step_of(path), spec.of_path(path)
    group = graph.STEPS[step].group
    if step == "evaluate":
        return of_measuring(task_of(path), _tested(path), 1 + params.load("student", specs["student"]).snapshots)
    if group is None:
        return of_measuring(task_of(path))
    samples = 0
    for earlier in {"teacher": ("dataset",), "balance": ("transfer",), "student": ("transfer", "balance")}.get(group, ()):
        read = params.load(earlier, specs[earlier])
        samples = training_images(read) if earlier == "dataset" else of_config(earlier, read, before=samples).samples
    config, task = params.load(group, specs[group]), task_of(path)
    if getattr(config, "outputs", "") == "all":
        task = _uncut(task, graph.path_of("teacher", specs, spec.root_of(path)))
    return of_config(group, config, task, samples)


def task_of(path) -> Task:
    """What the images of the job are that makes an artefact."""
    return _images(spec.root_of(path), *list(spec.of_path(path).values())[:2])


def _uncut(task: Task, teacher) -> Task:
    """The same with all classes that a teacher had before it was cut to some of them, where its file says so."""
    with contextlib.suppress(UserError, KeyError, TypeError, ValueError):
        return task._replace(classes=int(network_metadata.read_metadata(teacher)["whole"]["count"]))
    return task


@functools.cache
def _images(root, dataset, teacher="") -> Task:
    """Images, classes and task of a data set or, where it is gone, of a teacher; as declared where neither is there."""
    try:
        opened = dataset_file.open_dataset(Path(root, dataset, "dataset.h5"))
        return Task(opened.image_shape, len(opened.classes), opened.task)
    except UserError:
        pass
    try:
        description = network_metadata.read_metadata(Path(root, dataset, teacher, "teacher.safetensors"))["description"]
        task = str(description.get("task", tasks.CLASSIFICATION))
        return Task(tuple(map(int, description["image_shape"])), len(description["classes"]), task)
    except (UserError, KeyError, TypeError, ValueError):
        return declared(params.load("dataset", dataset))


def declared(config) -> Task:
    """Image shape, number of classes and task by a data set's config or the head of its file, where they say them."""
    named = NAMED.get(getattr(config, "name", "") or config.source, CIFAR)
    height = getattr(config, "height", 0) or getattr(config, "size", 0)
    shape = (getattr(config, "channels", 3), height, config.width or height) if height else named.image_shape
    shape = _stored(config)[1:] or shape
    classes = getattr(config, "classes", 0) or len(getattr(config, "keep", ()) or getattr(config, "names", ()))
    with contextlib.suppress(UserError):  # the step that reads the file says what is wrong with it
        classes = classes or len(card.names_in(getattr(config, "names_file", "")))
    return Task(shape, classes or named.classes, declared_task(config))


def declared_task(config) -> str:
    """The task of a data set by its config alone."""
    dense = config.source in DENSE or getattr(config, "task", "") == tasks.SEGMENTATION
    return tasks.SEGMENTATION if dense else tasks.CLASSIFICATION


def refuse(paths, here: bool = False):
    """Raise UserError, a line for each of ``paths`` whose job takes more than there is, or whose method is not for the task.

    here: this process runs them on a CPU, and is to keep to the limits of its own control group; not so where jobs are only
    planned, or where a GPU holds the images.
    """
    faults = [f"{path}: {fault}" for path in paths if (fault := _unfit(path) or excess(of_path(path), path, here))]
    if faults:
        raise UserError("\n".join(faults))


def _unfit(path) -> str:
    """Why the method of a transfer set is not for the maps of its data set; '' where it is."""
    step, specs = graph.step_of(path), spec.of_path(path)
    if graph.STEPS[step].group != "transfer":
        return ""
    task = task_of(path).task
    method = params.load("transfer", specs["transfer"]).method
    return registry.refusal(method, task) if task == tasks.SEGMENTATION else ""


def excess(takes: Estimate, path="results", here: bool = False) -> str:
    """What an estimate has too much of, with the remedy: for the disk of ``path``, for memory, for ten years; '' = nothing."""
    there = next(folder for folder in Path(path).absolute().parents if folder.is_dir())
    partial = atomic.partial_of(path)  # of a job that is resumed: its room is allocated already
    room = shutil.disk_usage(there).free + (partial.stat().st_size if partial.is_file() else 0)
    if takes.disk > room:
        return f"needs {size(takes.disk)} of disk space, with only {size(room)} left; use fewer samples"
    if takes.memory > (most := memory.here() if here else memory.most()):
        place = "the machine's control group" if most < memory.most() else "DFKD_MEMORY" if memory.given() else "the machine"
        there = f"{place} has {size(most)}"
        elsewhere = "" if here or memory.given() else ", or set DFKD_MEMORY to what the machine has on which the step is to run"
        held = f"a smaller n: the method holds its images, {size(takes.pool)}"
        less = {"metrics.json": "fewer test images", "export.json": "smaller images"}
        less = less.get(Path(path).name, "smaller batches or networks")
        remedy = f"use {held if 2 * takes.pool > takes.memory else less}"
        return f"needs {size(takes.memory)} of memory, but {there}; {remedy}{elsewhere}"
    if takes.steps * STEP_SECONDS > LONGEST:
        return f"needs {takes.steps:,} steps, more than ten years; use fewer"
    return ""


def summary(paths) -> str:
    """What the jobs of ``paths`` take together, as a line."""
    all_of = [of_path(path) for path in paths]
    disk, steps = sum(job.disk for job in all_of), sum(job.steps for job in all_of)
    return f"{len(all_of)} artefacts to make: {size(disk)} on disk, at least {steps:,} steps"
