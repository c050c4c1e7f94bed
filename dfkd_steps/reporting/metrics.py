"""The metrics of a run: their names, headings and meanings, and what makes the content of a metrics.json one."""

import math

from ..runtime.errors import one_line
from .quality import ACCURACIES, quality

# Metrics in the order of tables: name, heading, digits, meaning. A metric that is not here follows in results.csv only.
COLUMNS = (
    ("top1", "top-1 %", 2, "test images the student classifies correctly, percent"),
    ("miou", "mIoU %", 2, "segmentation: intersection over union with the true maps, mean over the classes, percent"),
    ("gap", "gap to teacher", 2, "student's top-1 or mIoU minus teacher's, percentage points"),
    ("pixel_accuracy", "pixels %", 2, "segmentation: pixels of test images the student classifies correctly, percent"),
    (
        "agreement_miou",
        "agreement mIoU %",
        2,
        "segmentation: mIoU of the student's maps with the teacher's maps of test images",
    ),
    ("balanced_accuracy", "balanced %", 2, "mean over the classes of the share of test images classified correctly, percent"),
    ("agreement", "agreement %", 2, "test images on which student and teacher predict the same class, percent"),
    (
        "probe_balanced",
        "probe agreement %",
        2,
        "not an accuracy: noise and drawings on which student and teacher predict the same class, percent, mean over the "
        "teacher's classes",
    ),
    ("probe_miou", "probe mIoU %", 2, "not a true mIoU: the student's maps of noise and drawings with the teacher's, percent"),
    ("ece", "ECE", 4, "expected calibration error, 0 to 1"),
    ("nll", "NLL", 4, "negative log-likelihood of the true class, nats"),
    ("kl_to_teacher", "KL", 4, "KL divergence from the teacher's probabilities to the student's, nats"),
    ("parameters", "parameters", 0, "parameters of the student"),
    ("macs", "MACs", 0, "multiply-accumulates of the student for one image"),
    ("compression", "compression", 2, "parameters of the teacher / parameters of the student"),
    ("images_seen", "images seen", 0, "images that the student learnt from, counting repeats"),
)
ORIGINS = ("data-free", "prior-based", "real", "other", "unknown")  # as synthesize says it; unknown where nobody does
SIZES = ("parameters", "macs", "compression")
BESIDE = {"top1": ("per_class", "confusion_matrix"), "miou": ("per_class_iou", "confusion_matrix")}  # what an accuracy comes with


def fault(metrics, specs) -> str | None:
    """Why these are no metrics of the run of these specs, or None."""
    measure = quality(metrics)
    needed = (measure, f"teacher_{measure}") if measure in metrics and measure in ACCURACIES else (measure,)
    for name, value in metrics.items():
        if isinstance(value, float) and not math.isfinite(value):
            return f"{name} is {value}, not a finite number"
    known = {name for name in ("n_test", *(name for name, *_ in COLUMNS)) if name in metrics}
    for name in (*needed, *sorted(known - {*needed})):
        value = metrics.get(name)
        if not is_number(value) or value < 0 or (name in needed and value > 100):
            return f"{name} is {one_line(repr(value))}, not a number in its range"
    curve = metrics.get("curve", [])
    if not isinstance(curve, list) or not all(_are_numbers(point, 2) and min(point) >= 0 for point in curve):
        return "curve is not a list of pairs (images, value measured after them)"
    if metrics.get("specs") != list(specs.values()):
        return f"is about {one_line(repr(metrics.get('specs')))}, not about the run that its path names"
    beside = BESIDE.get(measure, ("", ""))
    classes, per_class, confusion = (metrics.get(name) for name in ("classes", *beside))
    if not isinstance(classes, list) or not classes:
        return "classes is missing or empty"
    if measure not in ACCURACIES:
        return None
    k = len(classes)
    if not _are_numbers(per_class, k, or_none=True):
        return f"{beside[0]} is not a list of {k} numbers"
    if isinstance(errors := metrics.get("confusions"), list) and confusion is None:
        sound = all(_are_numbers(error, 3) and min(error) >= 0 and max(error[:2]) < k for error in errors)
        return None if sound else "confusions is not a list of triples (true class, predicted class, number)"
    if not isinstance(confusion, list) or len(confusion) != k or not all(_are_numbers(row, k) for row in confusion):
        return f"confusion_matrix is not a table of {k} x {k} numbers"
    return None


def is_number(value):
    """Is it a number that can be added to others without leaving the range of floats?"""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def _are_numbers(values, count, or_none=False):
    return isinstance(values, list) and len(values) == count and all(is_number(v) or (or_none and v is None) for v in values)
