"""Each loss against a second formula, a degenerate case, and its gradient."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dfkd_steps.methods.engines import image_losses, soft_targets
from dfkd_steps.training import losses


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
    assert torch.allclose(soft_targets.soft_cross_entropy(student, targets).mean(), F.cross_entropy(student, targets))
    hard = torch.eye(5, dtype=torch.float64)[[0, 1, 2, 3, 4, 0, 1]]
    expected = F.cross_entropy(student / 20, hard.argmax(1), reduction="none")
    assert torch.allclose(soft_targets.soft_cross_entropy(student, hard, 20.0), expected)
    soft_targets.soft_cross_entropy(student, targets, 20.0).sum().backward()
    assert student.grad.abs().sum() > 0


def test_soft_cross_entropy_is_least_at_the_target(logits):
    _, teacher = logits
    targets = F.softmax(teacher / 20, 1)
    assert torch.allclose(soft_targets.soft_cross_entropy(teacher, targets, 20.0), image_losses.entropy(targets))


def test_entropy_bounds():
    assert image_losses.entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist() == pytest.approx([0.0, np.log(2)])


def test_losses_of_each_sample_are_those_of_samples_alone(logits):
    student, teacher = logits
    for each, whole in ((losses.kd_each, losses.kd), (losses.l1_each, losses.l1)):
        arguments = (4.0,) if whole is losses.kd else ()
        alone = [whole(student[row : row + 1], teacher[row : row + 1], *arguments) for row in range(7)]
        assert torch.allclose(each(student, teacher, *arguments), torch.stack(alone))


def test_balance_is_least_where_classes_are_equally_frequent(logits):
    student, _ = logits
    mean = F.softmax(student, 1).detach().numpy().mean(0)
    assert image_losses.balance(student).item() == pytest.approx((mean * np.log(mean)).sum())
    image_losses.balance(student).backward()
    assert student.grad.abs().sum() > 0
    sure = 50 * torch.eye(5)
    assert image_losses.balance(sure).item() == pytest.approx(-np.log(5), abs=1e-5)  # each sure of another class
    assert image_losses.balance(sure[:1].expand(5, -1)).item() == pytest.approx(0, abs=1e-5)


def test_activation():
    features = torch.tensor([[1.0, -3.0], [0.0, 0.0]], requires_grad=True)
    assert image_losses.activation(features).tolist() == [-2.0, 0.0]
    image_losses.activation(features).sum().backward()
    assert features.grad.tolist() == [[-0.5, 0.5], [0.0, 0.0]]


def test_total_variation_by_pixels():
    images = torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    x, expected = images.detach().numpy(), 0.0
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        squares = 0.0
        for i in range(4):
            for j in range(5):
                if i + down < 4 and 0 <= j + right < 5:
                    squares += ((x[:, :, i + down, j + right] - x[:, :, i, j]) ** 2).sum()
        expected += np.sqrt(squares / 3)
    assert image_losses.total_variation(images).item() == pytest.approx(expected, rel=1e-5)
    # It does not depend on the number of images.
    assert image_losses.total_variation(images.repeat(4, 1, 1, 1)).item() == pytest.approx(expected, rel=1e-5)
    image_losses.total_variation(images).backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [image_losses.total_variation, image_losses.l2])
def test_image_priors_of_black_images(loss):
    black = torch.zeros(2, 1, 4, 4, requires_grad=True)
    value = loss(black)
    value.backward()
    assert value < 1e-5 and torch.isfinite(black.grad).all()


def test_l2():
    images = torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    assert image_losses.l2(images).item() == pytest.approx(np.linalg.norm(images.numpy()) / 3**0.5, rel=1e-5)


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 5)])
def test_moments(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    channels = np.moveaxis(values.float().numpy(), 1, 0).reshape(3, -1)
    mean, var = image_losses.moments(values)
    assert mean.dtype == torch.float32
    assert np.allclose(mean, channels.mean(1), atol=1e-5) and np.allclose(var, channels.var(1), rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 5)])
def test_gradient_of_moments_is_that_of_mean_and_var(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 1
    dims = [dim for dim in range(len(shape)) if dim != 1]

    def gradient(of, dtype=torch.float32):
        leaf = values.detach().to(dtype, copy=True).requires_grad_()
        mean, var = of(leaf)
        (torch.tensor([0.5, -1.0, 2.0]) * mean + torch.tensor([3.0, 0.1, -0.7]) * var).sum().backward()
        return leaf.grad.float()

    expected = gradient(lambda leaf: (leaf.mean(dims), leaf.var(dims, unbiased=False)))
    assert torch.allclose(gradient(image_losses.moments), expected, rtol=1e-4, atol=1e-6)
    assert torch.allclose(gradient(image_losses.moments, torch.bfloat16), expected, rtol=0.02, atol=0.02)


def test_moments_of_maps_whose_mean_is_large():
    values = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)) + 300
    mean, var = image_losses.moments(values.to(memory_format=torch.channels_last))
    assert torch.allclose(mean, values.double().mean((0, 2, 3)).float(), rtol=1e-5)
    assert torch.allclose(var, values.double().var((0, 2, 3), correction=0).float(), rtol=1e-3)


def test_statistics_of_normalisation():
    draw = torch.Generator().manual_seed(0)
    mean, wanted_mean = torch.randn(2, 5, generator=draw, dtype=torch.float64)
    var, wanted_var = torch.rand(2, 5, generator=draw, dtype=torch.float64) + 0.1
    by_hand = np.linalg.norm((mean - wanted_mean).numpy()) + np.linalg.norm((var - wanted_var).numpy())
    assert image_losses.statistics_l2(mean, var, wanted_mean, wanted_var).item() == pytest.approx(by_hand)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(wanted_mean, wanted_var.sqrt()), normal(mean, var.sqrt())).mean()
    assert image_losses.statistics_kl(mean, var, wanted_mean, wanted_var, eps=0.0).item() == pytest.approx(kl.item())
    assert image_losses.statistics_kl(mean, var, wanted_mean, wanted_var).item() == pytest.approx(kl.item(), rel=1e-3)


@pytest.mark.parametrize("loss", [image_losses.statistics_l2, image_losses.statistics_kl])
def test_statistics_that_are_as_wanted_or_of_a_constant(loss):
    mean, var = torch.tensor([0.3, -1.0], requires_grad=True), torch.tensor([0.5, 0.0], requires_grad=True)
    same = loss(mean, var, mean.detach(), var.detach())
    assert same.abs() < 1e-6
    far = loss(mean, var, torch.zeros(2), torch.ones(2))  # one variance is 0
    far.backward()
    assert far > 0 and torch.isfinite(mean.grad).all() and torch.isfinite(var.grad).all() and mean.grad.abs().min() > 0


def test_agree():
    one, other = torch.tensor([[1.0, 2, 0], [5, 1, 0], [0, 0, 1]]), torch.tensor([[0.0, 9, 1], [0, 1, 0], [0, 0, 7]])
    assert image_losses.agree(one, other).tolist() == [1.0, 0.0, 1.0]


def test_jensen_shannon(logits):
    student, teacher = logits
    p, q = F.softmax(teacher / 3, 1), F.softmax(student / 3, 1)
    middle = (p + q) / 2
    by_hand = 0.5 * ((p * (p / middle).log2()).sum(1) + (q * (q / middle).log2()).sum(1))
    assert torch.allclose(image_losses.jensen_shannon(student, teacher, 3.0), by_hand.mean())
    image_losses.jensen_shannon(student, teacher, 3.0).backward()
    assert student.grad.abs().sum() > 0
    assert image_losses.jensen_shannon(teacher + 1, teacher, 3.0).abs() < 1e-9
    sure = 100 * torch.eye(4)
    assert image_losses.jensen_shannon(sure, sure.roll(1, 1), 1.0).item() == pytest.approx(1)  # nothing in common: one bit


@pytest.mark.parametrize(
    "loss", [image_losses.balance, lambda logits: image_losses.jensen_shannon(logits, logits.detach().roll(1, 1), 1.0)]
)
def test_a_probability_that_underflows_to_zero_has_a_finite_gradient(loss):
    logits = torch.tensor([[200.0, 0.0, 1.0]] * 4, requires_grad=True)
    assert F.softmax(logits, 1)[0, 1] == 0
    loss(logits).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("banked", [0, 3])
def test_contrastive_by_pairs(banked):
    torch.manual_seed(0)
    both = (F.normalize(torch.randn(4 + banked, 6, dtype=torch.float64), dim=1).requires_grad_() for _ in range(2))
    anchors, keys = both
    tau, expected = 0.2, 0.0
    for i in range(4 + banked):
        among = [torch.exp(anchors[i] @ key / tau) for key in keys]
        expected -= torch.log(among[i] / sum(among)) / (4 if i < 4 else banked)
    found = image_losses.contrastive(anchors, keys, 4, tau)
    assert torch.allclose(found, expected)
    found.backward()
    assert anchors.grad.abs().sum() > 0 and keys.grad.abs().sum() > 0
    assert image_losses.contrastive(anchors[:1], keys[:1], 1, tau).abs() < 1e-12  # nothing to be told from


def test_attention_by_places():
    torch.manual_seed(0)
    student, teacher = (
        torch.randn(3, 4, 2, 5, dtype=torch.float64, requires_grad=True),
        torch.randn(3, 7, 2, 5, dtype=torch.float64),
    )
    maps = []
    for one in (student, teacher):
        looked = torch.stack([sum(one[:, channel] ** 2 for channel in range(one.shape[1]))[n] for n in range(3)])
        maps.append(looked / looked.flatten(1).norm(dim=1)[:, None, None])
    found = losses.attention(student, teacher)
    assert torch.allclose(found.double(), ((maps[0] - maps[1]) ** 2).sum((1, 2)) / 10)
    found.sum().backward()
    assert student.grad.abs().sum() > 0
    # How strong and how many the maps are does not count; where nothing is seen, there is no NaN.
    assert losses.attention(torch.cat([3 * teacher, -3 * teacher], 1), teacher).abs().max() < 1e-12
    assert losses.attention(torch.zeros_like(student), teacher).isfinite().all()
