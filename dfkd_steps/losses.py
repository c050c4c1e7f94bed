"""The losses that methods share. Free functions of tensors; N samples, K classes, logits not normalised."""

import torch
import torch.nn.functional as F


def kd(student_logits, teacher_logits, tau: float):
    """tau^2 KL(softmax(T/tau) || softmax(S/tau)), mean over the batch, nats (Hinton et al. 2015, eq. 2 ff.).

    Logits (N,K) each -> scalar.
    """
    student, teacher = F.log_softmax(student_logits / tau, 1), F.log_softmax(teacher_logits / tau, 1)
    return tau**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def l1(student_logits, teacher_logits):
    """Mean absolute difference of logits (DFAD, arXiv 1912.11006, eq. 4). Logits (N,K) each -> scalar."""
    return (student_logits - teacher_logits).abs().mean()


def soft_cross_entropy(logits, targets, tau: float = 1.0):
    """-sum_k y_k log softmax(z/tau)_k for each sample, nats (ZSKD, arXiv 1905.08114, eq. 2). (N,K), (N,K) -> (N)."""
    return -(targets * F.log_softmax(logits / tau, 1)).sum(1)


def entropy(probabilities):
    """-sum_k p_k log p_k for each sample, nats; 0 log 0 = 0. (N,K) -> (N)."""
    return torch.special.entr(probabilities).sum(1)
