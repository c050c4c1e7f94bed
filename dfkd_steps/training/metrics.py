"""What is measured of a student: beside labels, or beside its teacher alone. N images, K classes, logits (N,K), labels (N)."""

import math

import torch
import torch.nn.functional as F

ECE_BINS = 15
VALUES = 1 << 20  # logits that are computed with together: ImageNet's test images have 50 million
MOST_MATRIX = 100  # classes; with more of them the most frequent confusions are kept instead of the whole matrix
MOST_CONFUSIONS = 1000


def measure(logits_student, logits_teacher, labels) -> dict:
    """Metrics on labelled images.

    Accuracies and agreement in percent, top1_interval = 95 % Wilson interval of top1; balanced_accuracy = mean of per_class;
    kl_to_teacher = mean KL(teacher || student) and nll in nats, temperature 1; ece in [0,1]; per_class (K) percent, None for a
    class without images; confusion_matrix (K,K), rows true, or, of more than 100 classes, confusions: the commonest errors
    as [true class, answer, number].
    """
    classes = logits_student.shape[1]
    confusion = torch.bincount(labels * classes + logits_student.argmax(1), minlength=classes**2).view(classes, classes)
    per_class = shares(confusion)
    return {
        "top1": accuracy(logits_student, labels, 1),
        "top1_interval": wilson((logits_student.argmax(1) == labels).sum().item(), len(labels)),
        **({"top5": accuracy(logits_student, labels, 5)} if classes > 5 else {}),
        "balanced_accuracy": _mean(per_class),
        "teacher_top1": accuracy(logits_teacher, labels, 1),
        "agreement": accuracy(logits_student, logits_teacher.argmax(1), 1),
        "kl_to_teacher": round(kl(logits_teacher, logits_student), 6),
        "nll": round(nll(logits_student, labels), 6),
        "ece": round(calibration_error(logits_student, labels), 6),
        "n_test": len(labels),
        "per_class": per_class,
    } | confusions(confusion)


def compare(logits_student: dict, logits_teacher: dict) -> dict:
    """How far a student answers as its teacher, on images without labels; logits by kind of images.

    probe_agreement in percent over all images; probe_balanced in percent, mean over the classes that the teacher answers;
    probe_kl = mean KL(teacher || student), nats; probe_ece in [0,1]: the student's calibration as to the teacher's answer;
    probe_classes: how many classes the teacher answers; probe_per_class (K): percent, None for a class that it does not
    answer; probe_counts (K): its answers; probe_kinds: n, agreement and kl of each kind. None of it is an accuracy.
    """
    student, teacher = (torch.cat(list(logits.values())) for logits in (logits_student, logits_teacher))
    answers, classes = teacher.argmax(1), student.shape[1]
    confusion = torch.bincount(answers * classes + student.argmax(1), minlength=classes**2).view(classes, classes)
    per_class, counts = shares(confusion), confusion.sum(1).tolist()
    return {
        "probe_agreement": accuracy(student, answers, 1),
        "probe_balanced": _mean(per_class),
        "probe_kl": round(kl(teacher, student), 6),
        "probe_ece": round(calibration_error(student, answers), 6),
        "probe_classes": sum(count > 0 for count in counts),
        "n_probe": len(answers),
        "probe_per_class": per_class,
        "probe_counts": counts,
        "probe_kinds": [
            {
                "kind": kind,
                "n": len(logits),
                "agreement": accuracy(logits_student[kind], logits.argmax(1), 1),
                "kl": round(kl(logits, logits_student[kind]), 6),
            }
            for kind, logits in logits_teacher.items()
        ],
    }


def accuracy(logits, labels, top_k: int) -> float:
    """Images, or pixels, whose label is among the first ``top_k`` answers, percent. Logits (N,K,...), labels (N,...)."""
    # Of equal logits, which int8 has, topk may name another first than argmax, by which the other figures count.
    answers = logits.argmax(1, keepdim=True) if top_k == 1 else logits.topk(top_k).indices
    right = (answers == labels[:, None]).sum().item()
    return round(100 * right / labels.numel(), 4)


def wilson(right: int, number: int, z: float = 1.959964) -> list[float]:
    """The score interval of a share (Wilson 1927), 95 % by default, both ends in percent."""
    share, scale = right / number, 1 + z**2 / number
    middle = (share + z**2 / (2 * number)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return [round(100 * (middle - half), 4), round(100 * (middle + half), 4)]


def kl(logits_p, logits_q) -> float:
    """Mean KL(p || q) of the two softmax outputs, nats."""
    parts = zip(_log_softmax(logits_p), _log_softmax(logits_q))
    return math.fsum(F.kl_div(q, p, reduction="sum", log_target=True).item() for p, q in parts) / len(logits_p)


def nll(logits, labels) -> float:
    """Mean negative log-likelihood of labels (N), nats; logits (N,K)."""
    parts = zip(_log_softmax(logits), labels.split(_at_once(logits)))
    return math.fsum(F.nll_loss(log_q, truth, reduction="sum").item() for log_q, truth in parts) / len(labels)


def calibration_error(logits, labels) -> float:
    """Expected calibration error over 15 equal bins of confidence (Guo et al. 2017, arXiv 1706.04599, eq. 3), in [0,1].

    Logits (N,K), labels (N). By hand like the other metrics: torchmetrics takes two thirds of a job to import.
    """
    confidence, said = map(torch.cat, zip(*(log_q.exp().max(1) for log_q in _log_softmax(logits))))
    place = (confidence * ECE_BINS).long().clamp_max(ECE_BINS - 1)
    excess = torch.bincount(place, weights=confidence - (said == labels).double(), minlength=ECE_BINS)
    return excess.abs().sum().item() / len(labels)


def _at_once(logits) -> int:
    """Rows of logits (N,K) that are computed with together."""
    return max(1, VALUES // logits.shape[1])


def _log_softmax(logits):
    """The log-softmax of logits (N,K) in double precision, some rows at a time."""
    return (F.log_softmax(part.double(), 1) for part in logits.split(_at_once(logits)))


def shares(confusion) -> list:
    """The diagonal of a confusion matrix (K,K) as percent of its row; None for an empty row."""
    pairs = zip(confusion.diag().tolist(), confusion.sum(1).tolist())
    return [round(100 * right / number, 4) if number else None for right, number in pairs]


def _mean(values) -> float:
    """Mean of what is not None."""
    there = [value for value in values if value is not None]
    return round(math.fsum(there) / len(there), 4)


def confusions(confusion) -> dict:
    """The matrix, or of many classes its most frequent errors: a matrix of 1,000 classes would be a file of 6 MB."""
    if len(confusion) <= MOST_MATRIX:
        return {"confusion_matrix": confusion.tolist()}
    errors = confusion.clone().fill_diagonal_(0).flatten()
    counts, places = errors.sort(descending=True, stable=True)
    listed = [[place // len(confusion), place % len(confusion), count] for count, place in zip(counts.tolist(), places.tolist())
              if count]  # fmt: skip
    return {"confusions": listed[:MOST_CONFUSIONS]}
