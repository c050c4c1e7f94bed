"""Each loss against a second formula, a degenerate case, and its gradient."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dfkd_steps import losses


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(7, 5, dtype=torch.float64, requires_grad=True), torch.randn(7, 5, dtype=torch.float64) * 3


@pytest.mark.parametrize("tau", [1.0, 4.0, 20.0])
def test_kd_is_scaled_divergence(logits, tau):
    student, teacher = logits
    p, q = F.softmax(teacher / tau, 1), F.softmax(student / tau, 1)
    by_hand = tau**2 * (p * (p / q).log()).sum(1).mean()
    assert torch.allclose(losses.kd(student, teacher, tau), by_hand)
    losses.kd(student, teacher, tau).backward()
    assert student.grad.abs().sum() > 0
    # its gradient is tau (q - p) / N, of a size that does not fall with tau^2 (Hinton et al. 2015, sec. 2.1)
    assert torch.allclose(student.grad, tau * (q - p).detach() / len(teacher))


def test_kd_of_equal_logits_is_zero(logits):
    _, teacher = logits
    assert losses.kd(teacher + 3, teacher, 4.0).abs() < 1e-12  # softmax does not see a shift


def test_l1(logits):
    student, teacher = logits
    assert losses.l1(student, teacher).item() == pytest.approx(np.abs((student.detach() - teacher).numpy()).mean())
    losses.l1(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert losses.l1(teacher, teacher) == 0


def test_soft_cross_entropy(logits):
    student, teacher = logits
    targets = F.softmax(teacher, 1)
    assert torch.allclose(losses.soft_cross_entropy(student, targets).mean(), F.cross_entropy(student, targets))
    hard = torch.eye(5, dtype=torch.float64)[[0, 1, 2, 3, 4, 0, 1]]
    expected = F.cross_entropy(student / 20, hard.argmax(1), reduction="none")
    assert torch.allclose(losses.soft_cross_entropy(student, hard, 20.0), expected)
    losses.soft_cross_entropy(student, targets, 20.0).sum().backward()
    assert student.grad.abs().sum() > 0


def test_soft_cross_entropy_is_least_at_the_target(logits):
    _, teacher = logits
    targets = F.softmax(teacher / 20, 1)
    assert torch.allclose(losses.soft_cross_entropy(teacher, targets, 20.0), losses.entropy(targets))


def test_entropy_bounds():
    assert losses.entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist() == pytest.approx([0.0, np.log(2)])
