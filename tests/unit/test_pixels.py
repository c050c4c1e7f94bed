"""Inversion of pixels: where it starts, its rates, its view; and batches that are made one by one differ."""

from types import SimpleNamespace

import pytest
import torch
from small_method import build, rng
from small_net import classifier, close, convolutions, wrap

from dfkd_steps.methods.engines import pixel_inversion, pixel_optimization, soft_targets
from dfkd_steps.methods.engines.objective import Objective
from dfkd_steps.runtime.errors import UserError


@pytest.fixture(scope="module")
def teacher():
    return wrap(convolutions(10), classes=10)


def test_it_starts_from_normal_noise_in_the_scale_of_the_teacher_and_in_range(teacher, monkeypatch):
    seen, forward = [], Objective.forward
    monkeypatch.setattr(
        Objective, "forward", lambda self, images, *rest: seen.append(images.detach().clone()) or forward(self, images, *rest)
    )
    build("deepinversion", teacher, n=200, batch=200, steps=1).batch(0)
    (start,) = seen
    assert start.min() == 0 and start.max() == 1
    # N(0.3, 0.4) clipped to [0,1]: 22.7 % are below, 4.0 % above.
    assert (start == 0).float().mean().item() == pytest.approx(0.2266, abs=0.015)
    assert (start == 1).float().mean().item() == pytest.approx(0.0401, abs=0.01)


def test_each_channel_starts_in_a_scale_of_its_own():
    mean, std, seen = (0.4, 0.5, 0.6), (0.02, 0.05, 0.1), []
    teacher = wrap(torch.nn.Identity(), (3, 8, 8), mean=mean, std=std)
    config = SimpleNamespace(view="none", steps=1, lr=0.1, schedule="constant")
    pixel_inversion.invert(
        config, teacher, 200, lambda images: seen.append(images.detach().clone()) or images.sum(), (0.9, 0.999), rng()
    )
    (start,) = seen
    close(start.mean((0, 2, 3)), torch.tensor(mean), rtol=0.02)
    close(start.std((0, 2, 3)), torch.tensor(std), rtol=0.05)


@pytest.mark.parametrize(("schedule", "way"), [("constant", 4.0), ("cosine", 1 + 0.853553 + 0.5 + 0.146447)])
def test_the_rate_goes_by_its_schedule(schedule, way):
    start = torch.full((2, 1, 2, 2), 0.5)
    slope = torch.rand(start.shape) + 0.5
    found = pixel_inversion.optimize_batch(
        start, lambda images: (images * slope).sum(), steps=4, lr=0.01, schedule=schedule, betas=(0.9, 0.999)
    )
    close(found, start - 0.01 * way, rtol=1e-3)  # Adam's steps along a constant gradient are of the size of its rate


def test_the_rate_rises_before_it_falls():
    """As in DeepInversion's ImageNet script: 100 steps up, then half a cosine down to the end."""
    start, slope = torch.full((2, 1, 2, 2), 0.5), torch.rand(2, 1, 2, 2) + 0.5
    settings = {"steps": 6, "lr": 0.01, "schedule": "cosine", "betas": (0.9, 0.999), "warmup": 2}
    found = pixel_inversion.optimize_batch(start, lambda images: (images * slope).sum(), **settings)
    close(found, start - 0.01 * (0.5 + 1 + 1 + 0.853553 + 0.5 + 0.146447), rtol=1e-3)


@pytest.mark.parametrize("name", ["deepinversion", "adi"])
def test_coarse_steps_come_first_and_see_half_the_resolution(name, teacher, monkeypatch):
    """Means of 2x2 pixels, of which the view is taken; then steps of the usual kind go on from there, with another Adam."""
    seen, batches, forward, optimize = [], [], Objective.forward, pixel_inversion.optimize_batch
    monkeypatch.setattr(
        Objective, "forward", lambda self, images, *rest: seen.append(images.detach().clone()) or forward(self, images, *rest)
    )

    def spied(images, loss_of, **settings):
        batches.append((images.clone(), optimize(images, loss_of, **settings), settings["steps"]))
        return batches[-1][1]

    monkeypatch.setattr(pixel_inversion, "optimize_batch", spied)
    method = build(name, teacher, coarse=2, steps=3, lr_warmup=1, beta1=0.4)
    images = method.pool if method.rounds and method.round(0) else method.batch(0).images
    (start, between, coarse), (again, end, steps) = batches
    assert [image.shape[-1] for image in seen] == [4, 4, 8, 8, 8] and (coarse, steps) == (2, 3)
    close(seen[0], start.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)))
    assert torch.equal(again, between) and not torch.equal(between, start) and method.betas == (0.4, method.config.beta2)
    if name == "deepinversion":
        assert torch.equal(images, end)


def test_coarse_steps_with_a_teacher_of_one_size():
    teacher = classifier("lenet5", (1, 28, 28))
    with pytest.raises(UserError, match=r"transfer: coarse: 5: the teacher takes no images of 14x14 \(.+\); set coarse: 0"):
        build("deepinversion", teacher, bn=0.0, coarse=5)
    assert build("deepinversion", teacher, bn=0.0, steps=1).batch(0).images.shape[-1] == 28


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
def test_its_steps_are_adams_kept_in_range(betas):
    def loss_of(images):
        return (images.square() * torch.linspace(-1, 2, 8).view(2, 1, 2, 2)).sum()

    start = torch.full((2, 1, 2, 2), 0.4)
    by_hand = start.clone().requires_grad_()
    adam = torch.optim.Adam([by_hand], lr=0.1, betas=betas)
    for _ in range(9):
        adam.zero_grad()
        loss_of(by_hand).backward()
        adam.step()
        by_hand.data.clamp_(0, 1)
    found = pixel_inversion.optimize_batch(start, loss_of, steps=9, lr=0.1, schedule="constant", betas=betas)
    close(found, by_hand, rtol=1e-3, atol=1e-5)
    assert found.max() == 1 and torch.equal(start, torch.full((2, 1, 2, 2), 0.4))


def together(start, loss_of):
    return pixel_inversion.optimize_batch(start, loss_of, steps=3, lr=0.01, schedule="constant", betas=(0.9, 0.999))


def one_by_one(start, loss_of):
    each = lambda images, rows: loss_of(images).expand(len(images)) / len(images)  # noqa: E731
    return pixel_optimization.optimize_per_sample(start, each, steps=3, lr=0.01, check=5, tolerance=0.0)


@pytest.mark.parametrize("optimize", [together, one_by_one])
def test_a_gradient_that_lies_otherwise_in_memory(optimize):
    """As after a view that takes rows by an index. Adam's steps along a constant gradient are of the size of its rate."""
    start, slope = torch.full((2, 3, 4, 5), 0.5), torch.randn(2, 3, 4, 5, generator=rng())
    found = optimize(start, lambda images: (images.contiguous() * slope).sum())
    close(found, start - 0.03 * slope.sign(), rtol=1e-3)


@pytest.mark.parametrize("name", ["deepinversion", "adi"])
def test_the_losses_see_a_view_that_is_new_in_each_step(name, teacher, monkeypatch):
    named, plain = [], pixel_inversion.views.view
    monkeypatch.setattr(pixel_inversion.views, "view", lambda view, *rest: named.append(view) or plain(view, *rest))
    seen, forward = [], Objective.forward
    monkeypatch.setattr(
        Objective, "forward", lambda self, images, *rest: seen.append(images.detach().clone()) or forward(self, images, *rest)
    )
    method = build(name, teacher, steps=3, lr=1e-9, view="flip-crop")  # in ADI's first round no student learns
    method.round(0) if method.rounds else method.batch(0)
    assert named == ["flip-crop"] * 3 and not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize(
    "name", ["deepinversion", "psaq", "noise", "procedural", "mixture", "zskd", "soft-targeted", "generative"]
)
def test_two_batches_are_never_the_same_images(name):
    teacher = classifier()
    steps = {"steps": 1} if name in ("deepinversion", "psaq", "zskd", "soft-targeted") else {}
    sizes = {"n": 20, "batch": 10, **steps}  # ten: the same labels in both
    method = build(name, teacher, **sizes)
    images = torch.cat([method.batch(index).images for index in (0, 1)])
    assert len(images.flatten(1).unique(dim=0)) == 20


@pytest.mark.parametrize("name", ["zskd", "soft-targeted"])
def test_each_batch_is_seen_in_views_of_its_own(name, monkeypatch):
    seen = []

    def view(name, images, rng):
        seen.append(torch.rand(5, generator=rng))
        return images

    monkeypatch.setattr(soft_targets.views, "view", view)
    method = build(name, classifier(), n=20, batch=10, steps=1)
    for index in (0, 1, 0):
        method.batch(index)
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("name", ["zskd", "soft-targeted"])
def test_each_batch_has_pixels_and_targets_of_its_own(name, monkeypatch):
    starts = []
    monkeypatch.setattr(soft_targets, "optimize_per_sample", lambda images, *_, **__: starts.append(images.clone()) or images)
    same = {"betas": [1.0]} if name == "zskd" else {}  # ten classes: a batch has the distributions of the one before
    method = build(name, classifier(), n=20, batch=10, **same)
    targets = [method.batch(index).targets for index in (0, 1, 0)]
    for values in (starts, targets):
        assert torch.equal(values[0], values[2]) and len(torch.cat(values[:2]).flatten(1).unique(dim=0)) == 20
