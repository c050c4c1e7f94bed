"""What a job takes, from its config alone: bytes on disk and in memory, steps of training. What no machine has is refused.

Steps are those of the method's loops, by the names that config fields have in all methods; a lower bound where a method ends
earlier or the size of a set is not known. Images are those of the teacher or data set where it is there, else those that the
data set's config declares, else of CIFAR.
"""

import functools
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..runtime import memory
from ..runtime.errors import UserError
from ..storage import atomic, dataset_file, network_metadata
from . import graph, params, spec

CIFAR = ((3, 32, 32), 10)
STEP_SECONDS, LONGEST = 1e-4, 10 * 365 * 86400  # no step is faster; ten years
OUTER = ("members", "rounds_each", "rounds", "turns")  # loops of a method, one inside the other
INNER = ("steps", "steps_g", "steps_s")  # one after the other
POOLED = ("warmup", "collect")  # methods with these fields hold all their images, as uint8
BATCHES = ("batch", "train_batch", "batch_s")
FLOAT, BESIDE = 4, 12  # bytes of a number; of label and round of a sample


@dataclass(frozen=True)
class Estimate:
    """Samples that are written, bytes on disk, bytes that are held in memory at least, steps."""

    samples: int
    disk: int
    memory: int
    steps: int

    def __str__(self):
        hours = self.steps * STEP_SECONDS / 3600
        parts = [f"{self.samples:,} samples" if self.samples else "", f"{_size(self.disk)} on disk" if self.disk else ""]
        parts += [f"{self.steps:,} steps" if self.steps else "", f"{hours:,.0f} hours or more" if hours >= 1 else ""]
        return ", ".join(filter(None, [*parts, f"{_size(self.memory)} of memory or more"]))


def _size(count: int) -> str:
    unit = max(0, min(5, (count.bit_length() - 1) // 10))
    return f"{count / (1 << 10 * unit):,.3g} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[unit]}"


def of_config(group: str, config, images=CIFAR, before: int = 0) -> Estimate:
    """What a config's job takes, for ``images`` (C,H,W), classes; ``before``: samples of the set that it reads, 0 = unknown."""
    pixels, classes = math.prod(images[0]), images[1]
    if group == "dataset":
        samples = config.train + config.test
        disk = samples * (pixels + 8)
        return Estimate(samples, disk, disk, 0)
    batch = max((getattr(config, name, 0) for name in BATCHES), default=0)
    if group in ("teacher", "student"):
        per_epoch = getattr(config, "steps_per_epoch", 0) or -(-before // max(1, batch)) or 1
        held = min(batch, before) if before else 1
        return Estimate(0, 0, held * pixels * FLOAT, getattr(config, "epochs", 0) * per_epoch)
    samples = getattr(config, "n", 0) or getattr(config, "per_class", 0) * classes or before
    width = {"float16": 2, "float32": 4}.get(getattr(config, "image_type", ""), 1)
    disk = samples * (width * pixels + 2 * FLOAT * classes + BESIDE)
    if group == "balance":
        return Estimate(samples, disk, 0, 0)
    loops = [getattr(config, name) for name in OUTER if hasattr(config, name)]
    inner = sum(getattr(config, name, 0) for name in INNER)
    steps = (math.prod(loops) if loops else -(-samples // max(1, batch))) * inner
    held = max(min(config.batch, samples), *(getattr(config, name, 0) for name in BATCHES[1:]))
    width = getattr(config, "width", 0)  # of a generator, which begins with a dense layer
    weights = (getattr(config, "latent", 0) + classes) * width * 16 + 18 * width**2
    pool = samples * pixels if any(hasattr(config, name) for name in POOLED) else 0
    return Estimate(samples, disk, (held * pixels + weights) * FLOAT + pool, steps)


def of_path(path) -> Estimate:
    """What the job takes that makes an artefact."""
    step, specs = graph.step_of(path), spec.of_path(path)
    group = graph.STEPS[step].group
    if group is None:
        return Estimate(0, 0, 0, 0)
    samples = 0
    for earlier in {"teacher": ("dataset",), "balance": ("transfer",), "student": ("transfer", "balance")}.get(group, ()):
        read = params.load(earlier, specs[earlier])
        samples = read.train if earlier == "dataset" else of_config(earlier, read, before=samples).samples
    return of_config(group, params.load(group, specs[group]), _images(spec.root_of(path), *list(specs.values())[:2]), samples)


@functools.cache
def _images(root, dataset, teacher=""):
    """Image shape and number of classes of a data set or, where it is gone, of a teacher; as declared where neither is there."""
    try:
        found = dataset_file.open_dataset(Path(root, dataset, "dataset.h5"))
        return found.image_shape, len(found.classes)
    except UserError:
        pass
    try:
        told = network_metadata.read_metadata(Path(root, dataset, teacher, "teacher.safetensors"))["description"]
        return tuple(map(int, told["image_shape"])), len(told["classes"])
    except (UserError, KeyError, TypeError, ValueError):
        return _declared(params.load("dataset", dataset))


def _declared(config):
    """Image shape and number of classes by a data set's config, where it says them."""
    height = getattr(config, "height", 0) or getattr(config, "size", 0)
    shape = (getattr(config, "channels", 3), height, config.width or height) if height else CIFAR[0]
    classes = getattr(config, "classes", 0) or len(getattr(config, "keep", ()) or getattr(config, "names", ()))
    return shape, classes or CIFAR[1]


def refuse(paths):
    """Raise UserError, a line for each of ``paths`` whose job takes more than there is."""
    faults = [f"{path}: {fault}" for path in paths if (fault := excess(of_path(path), path))]
    if faults:
        raise UserError("\n".join(faults))


def excess(takes: Estimate, path="results") -> str:
    """What an estimate has too much of, with the remedy: for the disk of ``path``, for memory, for ten years; '' = nothing."""
    there = next(one for one in Path(path).absolute().parents if one.is_dir())
    partial = atomic.partial_of(path)  # of a job that is resumed: its room is allocated already
    room = shutil.disk_usage(there).free + (partial.stat().st_size if partial.is_file() else 0)
    if takes.disk > room:
        return f"takes {_size(takes.disk)} of the disk, which has {_size(room)} left; take fewer samples"
    if takes.memory > memory.most():
        there = f"{'DFKD_MEMORY' if memory.given() else 'the machine'} has {_size(memory.most())}"
        return f"takes {_size(takes.memory)} of memory, {there}; take smaller batches or networks"
    if takes.steps * STEP_SECONDS > LONGEST:
        return f"takes {takes.steps:,} steps, more than ten years; take fewer"
    return ""


def summary(paths) -> str:
    """What the jobs of ``paths`` take together, as a line."""
    all_of = [of_path(path) for path in paths]
    disk, steps = sum(one.disk for one in all_of), sum(one.steps for one in all_of)
    return f"{len(all_of)} artefacts to make: {_size(disk)} on disk, {steps:,} steps or more"
