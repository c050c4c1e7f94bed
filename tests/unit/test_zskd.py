"""Data impressions: the pieces of the formula, and that optimisation gets where it should."""

import numpy as np
import pytest
import torch
from small_net import CPU, wrap
from torch import nn

from dfkd_steps.methods import zskd
from dfkd_steps.methods.engines import image_losses, pixel_optimization, soft_targets
from dfkd_steps.models import hooks
from dfkd_steps.models.classifier import build_architecture
from dfkd_steps.procedural import registry
from dfkd_steps.runtime.seeds import seed_of
from dfkd_steps.training import views


def test_similarity_and_concentration():
    weights = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-2.0, 0.0]])
    classes = zskd.similarity(weights)
    root = 0.5**0.5
    assert torch.allclose(classes, torch.tensor([[1, root, -1], [root, 1, -root], [-1, -root, 1]], dtype=torch.float64))
    alpha = zskd.concentration(classes)
    assert torch.allclose(alpha[0], torch.tensor([1.0, (root + 1) / 2, 0.0], dtype=torch.float64) + 1e-4)
    assert (alpha.max(1).values - 1 - 1e-4).abs().max() < 1e-12 and (alpha.min(1).values - 1e-4).abs().max() < 1e-12


def test_targets_have_the_mean_and_spread_of_their_dirichlet():
    alpha = np.array([[1.0, 0.5, 1e-4], [0.3, 1.0, 0.2], [1e-4, 0.4, 1.0]])
    samples = np.arange(60_000)
    drawn = zskd.draw_targets(alpha, samples, [1.0, 0.1], 7)
    assert np.allclose(drawn.sum(1), 1) and drawn.min() >= 0
    for label in range(3):
        for turn, beta in enumerate([1.0, 0.1]):
            part = drawn[(samples % 3 == label) & (samples // 3 % 2 == turn)]
            a = alpha[label] * beta
            mean = a / a.sum()
            assert len(part) == 10_000
            assert np.allclose(part.mean(0), mean, atol=0.015)
            # beta is not scaled away: the variance is that of Dir(beta alpha)
            assert np.allclose(part.var(0), mean * (1 - mean) / (a.sum() + 1), atol=0.015)


class Linear(nn.Module):
    """A convex problem: logits are a linear map of the pixels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Linear(16, 3).requires_grad_(False)

    def forward(self, images):
        return self.map(images.flatten(1) - 0.5) * 3


def run(steps=300, tolerance=0.0, check=10, count=6):
    torch.manual_seed(1)
    start, targets = torch.rand(count, 1, 4, 4), torch.softmax(torch.randn(count, 3) / 2, 1)
    teacher, steps_taken = Linear(), []

    def loss(images, rows):
        steps_taken.append(len(rows))
        return soft_targets.soft_cross_entropy(teacher(images), targets[rows])

    images = pixel_optimization.optimize_per_sample(start, loss, steps=steps, lr=0.05, check=check, tolerance=tolerance)
    return images, soft_targets.soft_cross_entropy(teacher(images), targets) - image_losses.entropy(targets), steps_taken, start


def test_optimise_reaches_the_target():
    images, gap, _, start = run()
    assert gap.max() < 1e-4 and images.min() >= 0 and images.max() <= 1 and not torch.equal(images, start)


def test_each_sample_stops_by_itself():
    _, gap, taken, _ = run(tolerance=1e-3, check=5)
    assert gap.max() < 0.05 and len(taken) < 300
    assert taken[0] == 6 and 0 < taken[-1] < 6  # not all at once
    _, _, never, _ = run(tolerance=0.0, check=5)
    assert never == [6] * 300


@pytest.mark.parametrize("kept", [[0, 1, 2], [3]])
def test_a_sample_is_the_same_whatever_its_neighbours(kept):
    whole, *_ = run(steps=40)
    torch.manual_seed(1)
    start, targets = torch.rand(6, 1, 4, 4), torch.softmax(torch.randn(6, 3) / 2, 1)
    alone = pixel_optimization.optimize_per_sample(
        start[kept], lambda images, rows: soft_targets.soft_cross_entropy(Linear()(images), targets[kept][rows]),
        steps=40, lr=0.05, check=10, tolerance=0.0,
    )  # fmt: skip
    assert torch.allclose(alone, whole[kept], atol=1e-5)


def test_an_impression_made_on_views_keeps_its_target_on_other_views():
    torch.manual_seed(0)
    net = build_architecture("lenet5", 10, (1, 28, 28))
    torch.nn.init.normal_(hooks.last_linear(net, (1, 28, 28)).weight, std=3)
    teacher = wrap(net, (1, 28, 28), mean=(0.13,), std=(0.31,))

    def gap(view):
        method = zskd.ZSKD(zskd.ZSKDConfig(method="zskd", n=40, batch=40, steps=80, tau=4.0, view=view), teacher, [], CPU)
        made = method.batch(0)
        with torch.no_grad():
            seen = teacher(views.view("mild", made.images, torch.Generator().manual_seed(5)))
        return soft_targets.soft_cross_entropy(seen, made.targets, 4.0).mean() - image_losses.entropy(made.targets).mean()

    still, viewed = gap("none"), gap("mild")
    assert viewed < 0.9 * still


def test_a_share_stays_as_it_starts_with_what_the_teacher_says():
    torch.manual_seed(0)
    teacher = wrap(build_architecture("lenet5", 10, (1, 28, 28)), (1, 28, 28)).requires_grad_(False)

    def made(**how):
        config = zskd.ZSKDConfig(method="zskd", n=200, batch=200, steps=3, tau=4.0, start="objects", **how)
        return zskd.ZSKD(config, teacher, [], CPU).batch(0)

    moved, some = made(), made(untouched=0.5)
    start = registry.load("objects")(200, teacher.description, torch.Generator().manual_seed(seed_of("zskd", 0, 0, "pixels")))
    stayed = (some.images == start).flatten(1).all(1)
    assert 70 < stayed.sum() < 130 and not (moved.images == start).flatten(1).all(1).any()
    assert torch.allclose(some.targets[stayed], torch.softmax(teacher(start[stayed]) / 4, 1), atol=1e-6)
    assert torch.equal(some.targets[~stayed], moved.targets[~stayed])
    assert torch.allclose(some.images[~stayed], moved.images[~stayed], atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_of_which_all_may_stay(seed):
    """As the last of a set can be, which has what the others left."""
    teacher = wrap(build_architecture("lenet5", 10, (1, 28, 28)), (1, 28, 28)).requires_grad_(False)
    config = zskd.ZSKDConfig(method="zskd", n=1, batch=1, steps=2, start="objects", untouched=0.9, view="mild", seed=seed)
    made = zskd.ZSKD(config, teacher, [], CPU).batch(0)
    assert made.images.shape == (1, 1, 28, 28) and made.images.amax() > 0 and made.targets.sum() == pytest.approx(1, abs=1e-5)


def test_images_meet_their_targets():
    torch.manual_seed(0)
    net = build_architecture("lenet5", 10, (1, 28, 28))
    torch.nn.init.normal_(hooks.last_linear(net, (1, 28, 28)).weight, std=3)
    teacher = wrap(net, (1, 28, 28))

    def gap(steps):
        config = zskd.ZSKDConfig(method="zskd", n=20, batch=20, steps=steps, tau=4.0, tolerance=0.0)
        made = zskd.ZSKD(config, teacher, [], CPU).batch(0)
        answered = torch.log_softmax(teacher(made.images) / 4, 1)
        return (made.targets * (made.targets.clamp_min(1e-12).log() - answered)).sum(1).mean().item()

    assert gap(60) < 0.5 * gap(1)


def test_the_loss_of_an_image_is_its_cross_entropy_at_the_temperature():
    teacher = wrap(build_architecture("lenet5", 10, (1, 28, 28)), (1, 28, 28))
    method = zskd.ZSKD(zskd.ZSKDConfig(method="zskd", tau=7.0), teacher, [], CPU)
    images, targets = torch.rand(3, 1, 28, 28), torch.softmax(torch.randn(3, 10), 1)
    by_hand = -(targets * torch.log_softmax(teacher(images) / 7, 1)).sum(1)
    assert torch.allclose(method.losses_of(images, targets), by_hand)


def test_each_image_has_its_own_target_also_when_others_have_stopped(monkeypatch):
    teacher, seen = wrap(build_architecture("lenet5", 10, (1, 28, 28)), (1, 28, 28)), []

    def optimize(images, losses_of, **how):
        seen.append(losses_of(images[[2, 4]], torch.tensor([2, 4])))
        return images

    monkeypatch.setattr(soft_targets, "optimize_per_sample", optimize)
    method = zskd.ZSKD(zskd.ZSKDConfig(method="zskd", n=6, batch=6), teacher, [], CPU)
    made = method.batch(0)
    assert torch.allclose(seen[0], method.losses_of(made.images[[2, 4]], made.targets[[2, 4]]))


@pytest.mark.parametrize(("tolerance", "steps"), [(0.14, 20), (0.18, 10)])
def test_a_sample_stops_where_its_mean_loss_falls_by_less_than_the_tolerance(tolerance, steps):
    """Adam's steps down a slope are of one size, here 0.002 for each of 16 pixels: a window of five steps brings 0.16."""
    taken, start = [], torch.full((2, 1, 4, 4), 0.5)

    def losses_of(images, rows):
        taken.append(len(rows))
        return (images * torch.ones_like(images)).sum((1, 2, 3))

    pixel_optimization.optimize_per_sample(start, losses_of, steps=20, lr=0.002, check=5, tolerance=tolerance)
    assert taken == [2] * steps


def test_samples_that_go_on_keep_their_own_moments():
    pixels = torch.rand(5, 1, 4, 4).requires_grad_()
    adam = torch.optim.Adam([pixels], lr=0.1)
    (pixels.square() * torch.arange(1.0, 6).view(-1, 1, 1, 1)).sum().backward()
    adam.step()
    going = torch.tensor([False, True, False, True, True])
    kept, fresh, rows = pixel_optimization._keep(going, pixels, adam, torch.arange(10, 15), 0.1)
    assert torch.equal(kept, pixels[going]) and rows.tolist() == [11, 13, 14] and fresh.state[kept]["step"] == 1
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(fresh.state[kept][name], adam.state[pixels][name][going])


def test_a_distribution_whose_draws_are_all_zero_gives_the_class_alone():
    """Gamma numbers of shape 1e-7 are below the smallest of floating point."""
    drawn = zskd.draw_targets(np.full((3, 3), 1e-4), range(2, 8), [1e-3], 0)
    assert drawn.tolist() == np.eye(3)[[2, 0, 1, 2, 0, 1]].tolist()


def test_the_steps_of_each_sample_are_adams():
    slopes, start = torch.linspace(-1, 2, 12).view(3, 1, 2, 2), torch.full((3, 1, 2, 2), 0.4)
    by_hand = start.clone().requires_grad_()
    adam = torch.optim.Adam([by_hand], lr=0.05, betas=(0.9, 0.999))
    for _ in range(8):
        adam.zero_grad()
        (by_hand.square() * slopes).sum().backward()
        adam.step()
        by_hand.data.clamp_(0, 1)
    moved = pixel_optimization.optimize_per_sample(
        start, lambda images, rows: (images.square() * slopes[rows]).sum((1, 2, 3)), steps=8, lr=0.05, check=5, tolerance=0.0
    )
    assert torch.allclose(moved, by_hand, atol=1e-5)
