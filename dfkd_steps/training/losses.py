"""Losses of a student. Free functions of tensors; N samples, K classes, logits not normalised.

Logits (N,K), or (N,K,H,W) for segmentation: then a loss of a sample is the mean over its pixels.
"""

import torch.nn.functional as F


def by_sample(losses):
    """Losses (N) or (N,H,W) -> mean over the pixels of each sample (N)."""
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def kd_places(student_logits, teacher_logits, tau: float):
    """``kd_each`` without the mean over pixels. Logits (N,K,...) each -> (N,...)."""
    student, teacher = F.log_softmax(student_logits / tau, 1), F.log_softmax(teacher_logits / tau, 1)
    return tau**2 * F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)


def kd_each(student_logits, teacher_logits, tau: float):
    """tau^2 KL(softmax(T/tau) || softmax(S/tau)) for each sample, nats. Logits (N,K) or (N,K,H,W) each -> (N)."""
    return by_sample(kd_places(student_logits, teacher_logits, tau))


def kd(student_logits, teacher_logits, tau: float):
    """``kd_each``, mean over the batch (Hinton et al. 2015, eq. 2 ff.). Logits (N,K,...) each -> scalar."""
    return kd_each(student_logits, teacher_logits, tau).mean()


def kd_mean_each(student_logits, teacher_logits, tau: float):
    """``kd_each`` divided by the number of classes: the mean over them instead of the sum. Logits (N,K,...) each -> (N)."""
    return kd_each(student_logits, teacher_logits, tau) / student_logits.shape[1]


def l1_each(student_logits, teacher_logits, tau: float | None = None):
    """Mean absolute difference of the logits over the classes; it has no temperature. Logits (N,K,...) each -> (N)."""
    return by_sample((student_logits - teacher_logits).abs().mean(1))


def l1(student_logits, teacher_logits):
    """Mean absolute difference of logits (DFAD, arXiv 1912.11006, eq. 4). Logits (N,K,...) each -> scalar."""
    return l1_each(student_logits, teacher_logits).mean()


def attention(student_maps, teacher_maps):
    """Mean squared difference of where two networks look: the squares of a feature map's channels summed, of unit norm
    (attention transfer, Zagoruyko & Komodakis 2017, arXiv 1612.03928, eq. 2; squared and averaged over the places, as in
    its public code and in that of ZSKT). (N,C,H,W), (N,D,H,W) -> (N)."""
    student, teacher = (F.normalize(maps.float().square().mean(1).flatten(1), dim=1) for maps in (student_maps, teacher_maps))
    return (student - teacher).square().mean(1)
