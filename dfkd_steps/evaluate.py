"""Step evaluate: how good a student is, beside its teacher, on the test images. The only place that reads them.

python -m dfkd_steps.evaluate results/.../metrics.json STUDENT TEACHER DATASET
"""

import time

import torch
import torch.nn.functional as F

from .models import hooks
from .pipeline import spec
from .pipeline.job import run_step
from .runtime import progress
from .runtime.device import select_device
from .runtime.errors import UserError
from .storage import atomic, dataset_file, network_file
from .training.predict import to_float

BATCH = 1000
ECE_BINS = 15


def run(job):
    """Make metrics.json."""
    started = time.monotonic()
    student_path, teacher_path, dataset_path = job.inputs
    with atomic.exclusive(job.out, job.key) as partial:
        if partial is None:
            progress.say(f"{job.out}: is there already")
            return
        device, dataset = select_device(), dataset_file.open_dataset(dataset_path)
        student, teacher = (network_file.load_frozen(path, device) for path in (student_path, teacher_path))
        for network, path in ((student, student_path), (teacher, teacher_path)):
            check(network.description, path, dataset)
        logits_student, logits_teacher, labels = outputs(student, teacher, dataset, device)
        for logits, path in ((logits_student, student_path), (logits_teacher, teacher_path)):
            if not logits.isfinite().all():
                raise UserError(f"{path}: its logits on the test images are not finite; train it again with a smaller lr")
        metrics = measure(logits_student, logits_teacher, labels) | size(student.net, teacher.net, dataset.image_shape)
        # DVC shows every number and every string it finds as a column, and passes over lists.
        about = {
            "key": job.key,
            "specs": list(spec.of_path(job.out).values()),
            "provenance": [job.provenance(device)],
            "classes": list(dataset.classes),
        }
        atomic.write_json(job.out, metrics | about)
    progress.say(
        f"{job.out}: top-1 {metrics['top1']:.2f} %, teacher {metrics['teacher_top1']:.2f} %, "
        f"{metrics['n_test']} images, in {time.monotonic() - started:.1f} s"
    )


def check(description, path, dataset):
    """Refuse a network that is not for this data set's images and classes."""
    if tuple(description.image_shape) != tuple(dataset.image_shape):
        takes, has = ("x".join(map(str, shape)) for shape in (description.image_shape, dataset.image_shape))
        raise UserError(f"{path}: takes images of {takes}, {dataset.path} has {has}; make both from one data set")
    if description.num_classes != len(dataset.classes):
        raise UserError(
            f"{path}: knows {description.num_classes} classes, {dataset.path} has {len(dataset.classes)}; make both from one"
        )


@torch.inference_mode()
def outputs(student, teacher, dataset, device):
    """Logits (N,K) of both networks on all test images, and labels (N); on the CPU."""
    parts = []
    starts = range(0, dataset.sizes["test"], BATCH)
    for start in progress.bar(starts, desc="evaluate", unit="batch"):
        images, labels = dataset.read("test", slice(start, start + BATCH))
        images = to_float(torch.from_numpy(images).to(device))
        parts.append((student(images).float().cpu(), teacher(images).float().cpu(), torch.from_numpy(labels)))
    return tuple(torch.cat(part) for part in zip(*parts))


def measure(logits_student, logits_teacher, labels) -> dict:
    """Metrics from logits (N,K) and labels (N).

    Accuracies and agreement in percent; kl_to_teacher = mean KL(teacher || student) and nll in nats, temperature 1;
    ece in [0,1]; per_class (K) percent, None for a class without test images; confusion_matrix (K,K), rows true.
    """
    classes = logits_student.shape[1]
    confusion = torch.bincount(labels * classes + logits_student.argmax(1), minlength=classes**2).view(classes, classes)
    log_p, log_q = F.log_softmax(logits_teacher.double(), 1), F.log_softmax(logits_student.double(), 1)
    totals = confusion.sum(1).tolist()
    return {
        "top1": _accuracy(logits_student, labels, 1),
        "top5": _accuracy(logits_student, labels, min(5, classes)),
        "teacher_top1": _accuracy(logits_teacher, labels, 1),
        "agreement": _accuracy(logits_student, logits_teacher.argmax(1), 1),
        "kl_to_teacher": round(F.kl_div(log_q, log_p, reduction="batchmean", log_target=True).item(), 6),
        "nll": round(F.nll_loss(log_q, labels).item(), 6),
        "ece": round(calibration_error(log_q.exp(), labels), 6),
        "n_test": len(labels),
        "per_class": [round(100 * right / n, 4) if n else None for right, n in zip(confusion.diag().tolist(), totals)],
        "confusion_matrix": confusion.tolist(),
    }


def _accuracy(logits, labels, top_k):
    right = (logits.topk(top_k).indices == labels[:, None]).sum().item()
    return round(100 * right / len(labels), 4)


def calibration_error(probabilities, labels) -> float:
    """Expected calibration error over 15 equal bins of confidence (Guo et al. 2017, arXiv 1706.04599, eq. 3), in [0,1].

    Probabilities (N,K), labels (N). By hand like the other metrics: torchmetrics takes two thirds of a job to import.
    """
    confidence, said = probabilities.max(1)
    place = (confidence * ECE_BINS).long().clamp_max(ECE_BINS - 1)
    excess = torch.bincount(place, weights=confidence - (said == labels).double(), minlength=ECE_BINS)
    return excess.abs().sum().item() / len(labels)


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
