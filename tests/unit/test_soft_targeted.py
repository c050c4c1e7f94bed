"""Soft targets: the correlation matrix, and that targets are those of features with the distribution that is claimed."""

import numpy as np
import pytest
import torch
from small_net import CPU, classifier, wrap
from torch import nn

from dfkd_steps.methods import soft_targeted
from dfkd_steps.methods.engines import image_losses, soft_targets
from dfkd_steps.runtime.errors import UserError

K = 3


def method(teacher, **changes):
    values = {"n": 8, "batch": 8, "tau": 2.0, "steps": 60, "lr": 0.1, "activation": 0.0, **changes}
    return soft_targeted.SoftTargeted(soft_targeted.SoftTargetedConfig(method="soft-targeted", **values), teacher, [], CPU)


def network(*inner):
    """Pixels -> K features -> what is given -> logits that are the features themselves: so targets tell the features."""
    torch.manual_seed(0)
    last = nn.Linear(K, K)
    with torch.no_grad():
        last.weight.copy_(torch.eye(K))
        last.bias.zero_()
    first = nn.Linear(64, K)
    with torch.no_grad():
        first.weight[1] += first.weight[0]
        first.weight[2] -= 2 * first.weight[1]  # so that features are far from independent
    return wrap(nn.Sequential(nn.Flatten(), first, *inner, last), classes=K)


@pytest.mark.parametrize("shape", [(5, 40), (20, 3), (6, 2, 3, 3)])
def test_correlation(shape):
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weights[1] = -2 * weights[0]
    found, rows = soft_targeted.correlation(weights), weights.flatten(1).double().numpy()
    cosines = rows @ rows.T / np.linalg.norm(rows, axis=1)[:, None] / np.linalg.norm(rows, axis=1)
    assert found.shape == (shape[0],) * 2 and np.allclose(found, cosines + 1e-4 * np.eye(shape[0]))
    assert found[0, 1].item() == pytest.approx(-1)  # singular but for the 1e-4
    assert np.linalg.eigvalsh(found.numpy()).min() > 0.9e-4
    assert torch.allclose(found, found.T)


def test_correlation_of_a_unit_without_weights():
    found = soft_targeted.correlation(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    assert torch.linalg.cholesky(found).isfinite().all() and found[0, 1] == 0


def test_targets_are_those_of_gaussian_features():
    made = method(network(), sigma=1.5)
    drawn = made.draw_targets(range(40_000), 7)
    assert torch.allclose(drawn.sum(1), torch.ones(40_000)) and drawn.min() > 0
    centred = 2.0 * drawn.log()  # tau log y: the features but for a shift common to all
    centred = (centred - centred.mean(1, keepdim=True)).double().numpy()
    rows = made.teacher.net[1].weight.double().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    away = np.eye(K) - 1 / K
    covariance = 1.5**2 * away @ (rows @ rows.T + 1e-4 * np.eye(K)) @ away
    assert np.allclose(centred.mean(0), 0, atol=0.04)
    assert np.allclose(np.cov(centred.T), covariance, atol=0.1) and np.abs(covariance).max() > 1


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_features_behind_batchnorm_and_relu(sigma):
    teacher = network(nn.BatchNorm1d(K), nn.ReLU())
    shift, scale = (1.0, -1.0, 0.5), (2.0, -1.0, 0.5)
    with torch.no_grad():
        teacher.net[2].bias.copy_(torch.tensor(shift))
        teacher.net[2].weight.copy_(torch.tensor(scale))
    drawn = method(teacher, sigma=sigma).draw_targets(range(40_000), 7)
    centred = 2.0 * drawn.log()
    centred = (centred - centred.mean(1, keepdim=True)).mean(0)
    spread = sigma * (1 + 1e-4) ** 0.5 * torch.tensor(scale).abs()
    normal = torch.distributions.Normal(0, 1)
    z = torch.tensor(shift) / spread
    rectified = (spread * (z * normal.cdf(z) + normal.log_prob(z).exp())).tolist()  # E max(0, N(m, spread))
    assert centred.tolist() == pytest.approx([one - sum(rectified) / K for one in rectified], abs=0.015 * max(2, sigma * 2))


def test_targets_repeat_by_seed_and_soften_with_tau():
    made, softer = method(network()), method(network(), tau=20.0)
    assert torch.equal(made.draw_targets(range(5), 1), made.draw_targets(range(5), 1))
    assert not torch.equal(made.draw_targets(range(5), 1), made.draw_targets(range(5), 2))
    sharp, soft = made.draw_targets(range(200), 1), softer.draw_targets(range(200), 1)
    assert torch.equal(sharp.argmax(1), soft.argmax(1)) and image_losses.entropy(soft).mean() > image_losses.entropy(sharp).mean()


def test_images_come_near_their_targets_and_excite_the_features():
    teacher = network(nn.ReLU())
    plain, excited = (method(teacher, activation=weight).batch(0) for weight in (0.0, 1.0))
    assert torch.equal(plain.targets, excited.targets)

    def gap(images):
        return (soft_targets.soft_cross_entropy(teacher(images), plain.targets, 2.0) - image_losses.entropy(plain.targets)).mean()

    def features(images):
        return teacher.net[:3]((images - 0.3) / 0.4)

    assert gap(plain.images) < 0.5 * gap(torch.rand(8, 1, 8, 8))
    assert image_losses.activation(features(excited.images)).mean() < image_losses.activation(features(plain.images)).mean()


def test_no_layer_has_the_features():
    teacher = wrap(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, K)), classes=K)
    with pytest.raises(UserError, match=r"no layer has the 72 units that enter its classifier.*use another teacher") as caught:
        method(teacher)
    assert "\n" not in str(caught.value)


def test_of_a_network_with_batchnorm_its_shift_is_the_mean_and_its_scale_the_deviation():
    teacher = classifier()
    block = teacher.net.layer3[0]
    with torch.no_grad():
        nn.init.normal_(block.bn2.bias)
        nn.init.normal_(block.bn2.weight)  # some below 0: such a unit is turned round
    made = method(teacher)
    assert torch.equal(made.mean, block.bn2.bias.double()) and made.rectified
    scale = block.bn2.weight.detach().double()
    expected = scale[:, None] * soft_targeted.correlation(block.conv2.weight.detach()) * scale
    assert torch.allclose(made.root @ made.root.T, expected)


def test_features_without_batchnorm_have_no_mean():
    """Seen through a classifier that counts the first of them twice."""
    teacher = network()
    with torch.no_grad():
        teacher.net[2].weight[0, 0] = 2.0
    drawn = 2.0 * method(teacher).draw_targets(range(40_000), 7).log()
    assert (drawn - drawn.mean(1, keepdim=True)).mean(0).abs().max() < 0.05
