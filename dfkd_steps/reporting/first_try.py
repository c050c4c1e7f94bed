"""What ``dfkd new`` finds out about a teacher: what it is for, which methods fit it, and what the first thing to try costs here.

Changes nothing of a network, so no result depends on this module.
"""

import contextlib
import dataclasses
import os
import time

import numpy as np
import torch

from ..methods import registry as method_registry
from ..models import frozen, hooks, library, names, onnx_reader, tasks
from ..models.classifier import Description
from ..pipeline import estimate, params, together
from ..procedural import registry as procedural
from ..runtime import limits, memory
from ..runtime.device import autocast
from ..runtime.errors import UserError
from ..training import loop, losses, maps, views
from ..training.predict import predict

DRAWN_AT_ONCE = 50
METHOD_GIB = "4"  # that a method may take to begin; CMI's head takes 6.6 for an EfficientNet-lite0
TIMED_STEPS, TIMED_SECONDS = 10, 5  # of training, whichever comes first: SOAP finds its eigenvectors in each tenth step
SMALL, LARGE = 64, 160  # pixels of a side: presets for CIFAR or MNIST up to the first, those for 128 pixels up to the second
ASIDE = ("dataset", "mixture", "single-image")  # methods that need other images than the teacher's own


def task_of(builder: str, name: str, classes: int, image_shape) -> str | None:
    """What a network is for, by what it gives; ``name``: of an ONNX file its path. None where nothing tells.

    Only a factory's network is built, with random weights, for an image.
    """
    if builder == "onnx":
        return _task_of_onnx(name)
    if builder != names.FACTORY:
        return together.task_by_name(builder, name)
    blank = Description(builder, name, tuple(map(str, range(classes))), tuple(image_shape), (0.5,), (0.5,))
    try:
        with torch.no_grad():
            outputs = library.build(blank).eval()(torch.zeros(1, *image_shape))
    except UserError:
        raise
    except Exception:  # the import says in its own words what the network does not take
        return None
    outputs = outputs.get("out") if isinstance(outputs, dict) else outputs
    dense = isinstance(outputs, torch.Tensor) and outputs.ndim == 4 and max(outputs.shape[2:]) > 1
    return tasks.SEGMENTATION if dense else tasks.CLASSIFICATION


def _task_of_onnx(path: str) -> str | None:
    try:
        import onnx

        output = onnx.load(path, load_external_data=False).graph.output[0]
    except Exception:  # a missing package or file, or no ONNX: the import refuses each in its own words
        return None
    if not output.type.tensor_type.HasField("shape"):
        return None
    dense = len(output.type.tensor_type.shape.dim) == 4 and not onnx_reader.ends_in_one_pixel(output)
    return tasks.SEGMENTATION if dense else tasks.CLASSIFICATION


def preset(method: str, task: str) -> str | None:
    """The file in params/transfer/ to try a method with: one for the task, on a CPU, where there is any, else the plainest."""
    files = [name for name in params.names("transfer") if params.kind_of("transfer", name) == method]
    return min(files, key=lambda name: (task not in name, task in name and not name.endswith("-cpu"), len(name)), default=None)


def fitting(teacher, student: str) -> list[tuple[str, str, str]]:
    """Each data-free method with the file in params/transfer/ to try it with and why it does not fit this teacher, '' where
    it does: by the tasks that its class names, and by the error that it raises when it is made."""
    trials, task, known = [], teacher.description.task, data_free(teacher)
    for method in sorted(method_registry.REGISTRY):
        name = known if known and params.kind_of("transfer", known) == method else preset(method, task)
        if method in ASIDE or not name:
            continue
        if why := method_registry.unfit_for(method, task):
            trials.append((method, name, why))
            continue
        config = params.load("transfer", name)
        if why := estimate.excess(estimate.of_config("transfer", config, estimate.of_network(teacher.description))):
            trials.append((method, name, why))
            continue
        if hasattr(config, "student"):
            config = dataclasses.replace(config, student=student)
        # With room for one batch: of images of 224 pixels the pool of a published length takes tens of gigabytes.
        config = dataclasses.replace(config, n=config.batch)
        try:
            with _at_most(METHOD_GIB):
                method_registry.load(method)(config, teacher, [], torch.device("cpu"))
            trials.append((method, name, ""))
        except UserError as error:
            trials.append((method, name, str(error).splitlines()[0]))
    return trials


def data_free(teacher) -> str:
    """The preset to try after drawings: from the teacher alone and on a CPU, the best in docs/results/ for teachers like this;
    '' where none is known."""
    shape = teacher.description.image_shape
    norms, side = hooks.reached_batchnorm(teacher.net, shape), max(shape[1:])
    if teacher.description.dense:
        return "ssd-kd-segmentation-cpu" if norms else "dfad-segmentation-plain-cpu"
    if side > LARGE:
        return ""
    if norms:
        return "nayer-resnet20-cpu" if side <= SMALL else "nayer-128-cpu"
    return "zskt-lenet5-cpu" if side <= SMALL else ""


def seconds_of(teacher, config) -> float:
    """How long a method with an online student takes here, about, by a round of a tenth of its steps; raises UserError where it
    does not fit the teacher."""
    tenth = {name: max(1, round(getattr(config, name) / 10)) for name in ("steps", "steps_s") if hasattr(config, name)}
    single = {name: 1 for name in ("warmup", "turns", "batches", "batches_warmup") if hasattr(config, name)}
    short = dataclasses.replace(config, rounds=2, n=2 * config.batch, **single, **tenth)
    with _at_most(METHOD_GIB):
        method = method_registry.load(config.method)(short, teacher, [], torch.device("cpu"))
        method.round(0)  # which pays for what is set up once; a warm-up, where there is one
        started = time.monotonic()
        method.round(1)
        spent = time.monotonic() - started
    whole, part = config.training_steps(), short.training_steps() - dataclasses.replace(short, rounds=1).training_steps()
    return spent * whole / part


@contextlib.contextmanager
def _at_most(gib: str):
    """With DFKD_MEMORY at so many GiB, if it is unset: a method that needs more says so instead of allocating them."""
    if memory.given() is not None:
        yield
        return
    os.environ["DFKD_MEMORY"] = gib
    try:
        yield
    finally:
        del os.environ["DFKD_MEMORY"]


def drawn_spec(kind: str, number: int) -> str:
    """The transfer set to try first: ``number`` images of a kind, drawn as many at a time as ``costs`` does."""
    return params.spec_of("transfer", "procedural", batch=DRAWN_AT_ONCE, kind=kind, n=number)


def costs(teacher, student, config, kind: str, number: int) -> dict[str, float]:
    """What the first thing to try takes: seconds of drawing ``number`` images of a kind and asking the teacher, and of training
    in fp32 and in bf16; bytes on disk and in memory. A few steps are timed."""
    described, rng = teacher.description, torch.Generator().manual_seed(0)
    started = time.monotonic()
    images = procedural.load(kind)(DRAWN_AT_ONCE, described, rng).float()
    # As the step does it: of maps the logits of all images at once could be more than memory has.
    answers = (maps.predict if described.dense else predict)(teacher, images.numpy(), torch.device("cpu"))
    drawing = (time.monotonic() - started) / DRAWN_AT_ONCE
    steps = config.epochs * (config.steps_per_epoch or -(-number // config.batch))
    training = {precision: steps * _step(teacher, student, config, images, answers, precision) for precision in ("fp32", "bf16")}
    task = estimate.of_network(described)
    transfer = params.load("transfer", drawn_spec(kind, number))
    disk = estimate.of_config("transfer", transfer, task).disk
    return {"drawing": number * drawing, **training, "disk": disk, "memory": limits.peak()}


def _step(teacher, student, config, images, logits: np.ndarray, precision: str) -> float:
    """Seconds of a step of training, the mean of a few; the teacher is evaluated again where its logits are not stored."""
    rows, device = torch.arange(config.batch) % len(images), torch.device("cpu")
    answering = frozen.fast_copy(teacher, precision) if config.augment != "none" or teacher.description.dense else None
    optimizer, done, started = loop.optimizer(student.train(), config), -1, 0.0
    while done < TIMED_STEPS and (done < 1 or time.monotonic() - started < TIMED_SECONDS):
        inputs = views.view(config.augment, images[rows], torch.Generator().manual_seed(0))
        targets = frozen.logits(answering, inputs, precision) if answering else torch.from_numpy(logits)[rows]
        with autocast(device, precision):
            answers = student(inputs)
        loop.advance(student, optimizer, losses.kd(answers.float(), targets, config.tau), config.lr)
        done += 1
        if done == 0:  # the first one pays for what is set up once
            started = time.monotonic()
    return (time.monotonic() - started) / done
