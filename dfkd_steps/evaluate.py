"""Step evaluate: how good a student is, beside its teacher: on the test images, if there are any, and on probe images, which
need no data (``training.probes``). The only place that reads the test images.

python -m dfkd_steps.evaluate results/.../metrics.json STUDENT TEACHER DATASET
"""

import math
import time
from pathlib import Path

import numpy as np
import torch

from .models import answering_network, hooks
from .pipeline import keys, params, spec
from .pipeline.job import run_step
from .reporting import examples
from .reporting.quality import quality as quality_of
from .runtime import memory, passes, progress
from .runtime.device import select_device
from .runtime.errors import UserError
from .storage import atomic, dataset_file, network_file
from .training import maps, metrics, probes, segmentation_metrics, snapshots
from .training.predict import to_float

BATCH, LEAST = 256, 16  # test images whose statistics a student normalises by, at most and at least


def run(job):
    """Make metrics.json."""
    started = time.monotonic()
    student_path, teacher_path, dataset_path = job.inputs
    with atomic.exclusive(job.out, job.key) as partial:
        if partial is None:
            progress.say(f"{job.out}: already exists")
            return
        device, dataset = select_device(), dataset_file.open_dataset(dataset_path)
        student, teacher = (network_file.load_frozen(path, device) for path in (student_path, teacher_path))
        for network, path in ((student, student_path), (teacher, teacher_path)):
            check(network.description, path, dataset)
        dense, students = teacher.description.dense, snapshots.networks(student)
        on_probes_too = [student] if dataset.sizes["test"] else list(students.values())
        by_student = (maps_on_probes if dense else on_probes)(on_probes_too, teacher, job, device)
        figures = by_student[-1]
        if dataset.sizes["test"]:
            by_student = (maps_on_test if dense else on_test)(list(students.values()), teacher, dataset, job, device)
            figures |= by_student[-1] | ({} if dense else on_test_batches(student, dataset, device))
        if dense and dataset.sizes["test"]:
            content = drawn_examples(student, teacher, dataset, device)
            atomic.write(Path(job.out).with_name(examples.FILE), content)
            figures["examples"] = [examples.digest(content)]  # the file cannot carry a key itself
        figures |= size(student, teacher, dataset.image_shape) | on_the_way(students, by_student)
        # DVC shows every number and every string it finds as a column, and passes over lists.
        about = {
            "key": job.key,
            "specs": list(spec.of_path(job.out).values()),
            "provenance": [job.provenance(device)],
            "classes": list(dataset.classes),
        }
        atomic.write_json(job.out, figures | about)
    progress.say(f"{job.out}: {sentence(figures)}, in {time.monotonic() - started:.1f} s")


def sentence(figures: dict) -> str:
    """The figures in a line for the log; without test images none of them is an accuracy."""
    if "miou" in figures:
        return f"mIoU {figures['miou']:.2f} %, teacher {figures['teacher_miou']:.2f} %, {figures['n_test']} images"
    if "top1" in figures:
        return f"top-1 {figures['top1']:.2f} %, teacher {figures['teacher_top1']:.2f} %, {figures['n_test']} images"
    kinds = ", ".join(probe["kind"] for probe in figures["probe_kinds"])
    if "probe_miou" in figures:
        return (
            f"no test images, so no true mIoU; mIoU with the teacher's maps {figures['probe_miou']:.2f} %, "
            f"KL {figures['probe_kl']:.3f} nats, on {figures['n_probe']} probe images ({kinds})"
        )
    return (
        f"no test images, so no accuracy; agreement with the teacher {figures['probe_agreement']:.2f} %, mean over its classes "
        f"{figures['probe_balanced']:.2f} %, KL {figures['probe_kl']:.3f} "
        f"nats, on {figures['n_probe']} probe images ({kinds})"
    )


def on_the_way(students: dict, by_student: list[dict]) -> dict:
    """How many images the student learnt from, where that is known, and how good it was after fewer of them: [images, value].

    students: by images, in order; by_student: what was measured of each.
    """
    quality = quality_of(by_student[-1])
    curve = [[seen, round(figures[quality], 4)] for seen, figures in zip(students, by_student)]
    return {**({"images_seen": max(students)} if max(students) else {}), **({"curve": curve} if len(curve) > 1 else {})}


def on_test(students, teacher, dataset, job, device) -> list[dict]:
    """Each student beside the teacher on the test images."""
    labels, rows = [], memory.passed(dataset.image_shape)

    def batches():
        for start in progress.bar(range(0, dataset.sizes["test"], rows), desc="evaluate", unit="batch"):
            images, truth = dataset.read("test", slice(start, start + rows))
            labels.append(torch.from_numpy(truth))
            yield torch.from_numpy(images)

    *by_student, of_teacher = logits([*students, teacher], batches(), device)
    refuse_infinite(job, "test", by_student, of_teacher)
    return [metrics.measure(of_student, of_teacher, torch.cat(labels)) for of_student in by_student]


def on_test_batches(student, dataset, device) -> dict:
    """``top1_current``: percentage of test images that the student classifies correctly with the BatchNorm statistics of BATCH
    of them together (Nado et al. 2020, arXiv 2006.10963), or of as many as one pass takes, whatever DFKD_MEMORY. Where it is far
    above top1, the student lacks the statistics of such images, and not only what the teacher knows of them. Nothing for students
    without such layers or with frozen ones, and where fewer than LEAST images come together.
    """
    number = dataset.sizes["test"]
    together = min(BATCH, number, memory.drawn(dataset.image_shape))
    if together < LEAST:
        return {}
    try:
        network = answering_network.with_current_statistics(student)
    except UserError:  # it has no such layers, or frozen ones
        return {}
    order, right = np.random.default_rng(0).permutation(number), 0  # a data set may have its classes one after the other
    for rows in np.array_split(order, math.ceil(number / together)):
        images, truth = map(torch.from_numpy, dataset.read("test", np.sort(rows)))
        (answers,) = logits([network], [images], device)
        right += (answers.argmax(1) == truth).sum().item()
    return {"top1_current": round(100 * right / number, 4)}


def on_probes(students, teacher, job, device) -> list[dict]:
    """Each student beside the teacher on images of other kinds than the student learnt from."""
    transfer = params.load("transfer", spec.of_path(job.out)["transfer"])
    rows, answers = memory.passed(teacher.description.image_shape), {}
    for kind, images in probes.draw(teacher.description, keys.chosen_code(transfer)[0]):
        answers[kind] = logits([*students, teacher], images.split(rows), device)
        del images  # before the next kind is drawn
    *by_student, of_teacher = ({kind: each[place] for kind, each in answers.items()} for place in range(len(students) + 1))
    for of_student in by_student:
        refuse_infinite(job, "probe", of_student.values(), *of_teacher.values())
    return [metrics.compare(of_student, of_teacher) for of_student in by_student]


def drawn_examples(student, teacher, dataset, device) -> bytes:
    """A few test images with the maps of truth, teacher and student, for the report; beside metrics.json and not in it, as those
    who pass on figures need not pass on images."""
    images, truth = dataset.read("test", examples.rows_of(dataset.sizes["test"]))
    drawn = {"truth": truth, "teacher": maps.predict(teacher, images, device), "student": maps.predict(student, images, device)}
    return examples.sheet(images, drawn, len(dataset.classes))


PROBES_OF_MAPS = 24  # of each kind: each image has thousands of answers


def maps_on_test(students, teacher, dataset, job, device) -> list[dict]:
    """``on_test`` of segmentation networks."""
    return list(map(segmentation_metrics.measured, count(students, teacher, labelled(dataset), job, "test", device)))


def maps_on_probes(students, teacher, job, device) -> list[dict]:
    """``on_probes`` of segmentation networks."""
    transfer = params.load("transfer", spec.of_path(job.out)["transfer"])
    rows, by_kind = passes.passed_by(teacher.description), {}
    for kind, images in probes.draw(teacher.description, keys.chosen_code(transfer)[0], PROBES_OF_MAPS):
        by_kind[kind] = count(students, teacher, ((part, None) for part in images.split(rows)), job, "probe", device)
        del images  # before the next kind is drawn
    by_student = ({kind: each[place] for kind, each in by_kind.items()} for place in range(len(students)))
    return list(map(segmentation_metrics.compared, by_student))


def labelled(dataset):
    """The test images and their maps, a batch at a time."""
    rows = passes.passed(dataset.image_shape, len(dataset.classes))
    for start in progress.bar(range(0, dataset.sizes["test"], rows), desc="evaluate", unit="batch"):
        yield map(torch.from_numpy, dataset.read("test", slice(start, start + rows)))


@torch.inference_mode()
def count(students, teacher, batches, job, what: str, device) -> list[segmentation_metrics.Counts]:
    """Pixels by class and answers of each student and the teacher, over batches of images and maps (or None)."""
    counts = [segmentation_metrics.Counts(teacher.description.num_classes) for _ in students]
    for images, truth in batches:
        images, truth = to_float(images.to(device)), None if truth is None else truth.to(device)
        of_teacher = teacher(images).float()
        for student, of_student in zip(students, counts):
            answers = student(images).float()
            refuse_infinite(job, what, [answers], of_teacher)
            of_student.add(answers, of_teacher, truth)
    return counts


def refuse_infinite(job, images: str, logits_students, *logits_teacher):
    """Raise UserError where some logits of a network, in tensors of any size, are not finite."""
    for answers, path in ((logits_students, job.inputs[0]), (logits_teacher, job.inputs[1])):
        if not all(part.isfinite().all() for part in answers):
            raise UserError(f"{path}: its logits on the {images} images are not finite; train it again with a smaller lr")


def check(description, path, dataset):
    """Refuse a network that is not for this data set's images and classes."""
    if tuple(description.image_shape) != tuple(dataset.image_shape):
        takes, has = ("x".join(map(str, shape)) for shape in (description.image_shape, dataset.image_shape))
        raise UserError(f"{path}: takes images of {takes}, but {dataset.path} has {has}; make both from the same data set")
    if description.task != dataset.task:
        raise UserError(
            f"{path}: is for {description.task}, but {dataset.path} is for {dataset.task}; make both from the same data set"
        )
    if description.num_classes != len(dataset.classes):
        raise UserError(
            f"{path}: has {description.num_classes} classes, but {dataset.path} has {len(dataset.classes)}; make both "
            "from the same data set"
        )


@torch.inference_mode()
def logits(networks, batches, device) -> tuple:
    """Logits (N,K) of each network on batches of images (n,C,H,W), uint8 or in [0,1]; on the CPU."""
    parts = [[] for _ in networks]
    for images in batches:
        images = to_float(images.to(device))
        for network, of_network in zip(networks, parts):
            of_network.append(network(images).float().cpu())
    return tuple(torch.cat(parts.pop(0)) for _ in networks)  # no more than those of one network twice


def size(student, teacher, image_shape) -> dict:
    """Parameters and multiply-accumulates per image of the two bare networks; compression = teacher's / student's parameters."""
    student_parameters, teacher_parameters = hooks.parameters(student), hooks.parameters(teacher)
    return {
        "parameters": student_parameters,
        "macs": hooks.macs(student, image_shape),
        "teacher_parameters": teacher_parameters,
        "teacher_macs": hooks.macs(teacher, image_shape),
        "compression": round(teacher_parameters / student_parameters, 6),
    }


if __name__ == "__main__":
    run_step("evaluate", run)
