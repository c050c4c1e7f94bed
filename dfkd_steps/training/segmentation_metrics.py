"""What is measured of a segmentation student, batch by batch: beside label maps, or beside its teacher alone.

K classes, logits (N,K,H,W), maps (N,H,W), 255 = void; a confusion matrix (K,K) counts pixels, its rows are the true classes.
"""

import math

import torch
import torch.nn.functional as F

from ..models.tasks import VOID
from .metrics import shares


def confusion(truth, answers, classes: int):
    """Pixels by true class and answer. Maps (N,H,W) each; void pixels of ``truth`` do not count. -> (K,K) int64."""
    counted = truth != VOID
    places = truth[counted].long() * classes + answers[counted].long()
    return torch.bincount(places, minlength=classes**2).view(classes, classes)


def iou(matrix) -> list:
    """Intersection over union of each class in percent: right pixels / pixels that are or are called so; None for a class that
    neither occurs nor is answered. (K,K) -> K values."""
    right = matrix.diag()
    union = matrix.sum(0) + matrix.sum(1) - right
    return [round(100 * hit / all_, 4) if all_ else None for hit, all_ in zip(right.tolist(), union.tolist())]


def mean(values) -> float:
    """Mean of what is not None; 0 where nothing is."""
    there = [value for value in values if value is not None]
    return round(math.fsum(there) / max(1, len(there)), 4)


def accuracy(matrix) -> float:
    """Pixels whose answer is right, percent."""
    return round(100 * matrix.diag().sum().item() / max(1, matrix.sum().item()), 4)


class Counts:
    """Sums over batches: confusion matrices of student and teacher beside the truth and beside one another, and the KL."""

    def __init__(self, classes: int):
        self.classes = classes
        self.student, self.teacher, self.both = (torch.zeros(classes, classes, dtype=torch.int64) for _ in range(3))
        self.images, self.pixels, self.kl = 0, 0, 0.0

    def add(self, student_logits, teacher_logits, truth=None):
        """A batch: logits of both networks, and maps where there are any."""
        answers, teachers = (logits.argmax(1) for logits in (student_logits, teacher_logits))
        log_q, log_p = (F.log_softmax(logits.float(), 1) for logits in (student_logits, teacher_logits))
        self.kl += F.kl_div(log_q, log_p, reduction="sum", log_target=True).item()
        self.images, self.pixels = self.images + len(answers), self.pixels + answers.numel()
        self.both += confusion(teachers, answers, self.classes).cpu()
        if truth is not None:
            self.student += confusion(truth, answers, self.classes).cpu()
            self.teacher += confusion(truth, teachers, self.classes).cpu()

    def mean_kl(self) -> float:
        """Mean KL(teacher || student) over all pixels, nats."""
        return round(self.kl / max(1, self.pixels), 6)


def measured(counts: Counts) -> dict:
    """Metrics on test images, all but kl_to_teacher (mean KL(teacher || student) of a pixel, nats) and numbers in percent.

    miou = mean of per_class_iou over the classes that occur or are answered; pixel_accuracy; mean_class_accuracy = mean over
    the classes of the share of their pixels that is right; agreement_miou and agreement_pixels: the same two with the teacher's
    maps for the truth, void pixels included; n_test images, n_test_pixels without void; confusion_matrix (K,K), rows true.
    """
    per_class = iou(counts.student)
    return {
        "miou": mean(per_class),
        "pixel_accuracy": accuracy(counts.student),
        "mean_class_accuracy": mean(shares(counts.student)),
        "teacher_miou": mean(iou(counts.teacher)),
        "teacher_pixel_accuracy": accuracy(counts.teacher),
        "agreement_miou": mean(iou(counts.both)),
        "agreement_pixels": accuracy(counts.both),
        "kl_to_teacher": counts.mean_kl(),
        "n_test": counts.images,
        "n_test_pixels": int(counts.student.sum()),
        "per_class_iou": per_class,
        "teacher_per_class_iou": iou(counts.teacher),
        "confusion_matrix": counts.student.tolist(),
    }


def compared(by_kind: dict[str, Counts]) -> dict:
    """How far a student answers as its teacher on images without labels, by kind; none of it is an accuracy.

    probe_miou and probe_pixels: as ``measured`` says it of agreement, over all kinds, percent; probe_kl in nats; probe_classes:
    how many classes the teacher answers; probe_per_class_iou (K); probe_kinds: n, agreement (mIoU) and kl of each kind.
    """
    all_counts = list(by_kind.values())
    both = torch.stack([counts.both for counts in all_counts]).sum(0)
    pixels = sum(counts.pixels for counts in all_counts)
    return {
        "probe_miou": mean(iou(both)),
        "probe_pixels": accuracy(both),
        "probe_kl": round(sum(counts.kl for counts in all_counts) / max(1, pixels), 6),
        "probe_classes": int((both.sum(1) > 0).sum()),
        "n_probe": sum(counts.images for counts in all_counts),
        "probe_per_class_iou": iou(both),
        "probe_kinds": [
            {"kind": kind, "n": counts.images, "agreement": mean(iou(counts.both)), "kl": counts.mean_kl()}
            for kind, counts in by_kind.items()
        ],
    }
