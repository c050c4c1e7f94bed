"""The meta-learnt generator of Fast and SSD-KD: its gradient by hand, what it buys, and that each batch starts from it."""

import copy
from types import SimpleNamespace

import pytest
import torch
from small_method import alone, build, rng, sampled
from small_net import classifier, close
from torch import nn

from dfkd_steps.methods.engines import generator_inversion
from dfkd_steps.methods.engines.generator_inversion import MetaInverter, new_generator

METHODS = ("fast", "ssd-kd")


@pytest.fixture(scope="module")
def teacher():
    return classifier(seed=1)


class Maker(nn.Module):
    """Images (N,1,2,2) are a linear map of latent vectors; a buffer counts the passes, as BatchNorm does."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.map = nn.Linear(4, 4)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, latent):
        self.passes += 1
        return self.map(latent).view(-1, 1, 2, 2)

    def draw(self, number, rng):
        return torch.randn(number, 4, generator=rng), None


def inverter(**changes):
    values = {
        "batch": 5,
        "steps": 3,
        "lr_g": 0.05,
        "lr_z": 0.02,
        "precision": "fp32",
        "reset": 0.0,
        "rounds": 9,
        "warmup": 2,
        **changes,
    }
    return MetaInverter(SimpleNamespace(**values), Maker())


def loss_of(images):
    return (images - 0.7).square().mean() + images[:, 0, 0, 0].sin().mean()


def gradients_of_a_copy(made, seed):
    """The gradients of each step of a copy of the generator, and the images of each step, by plain Adam."""
    config, copied, groups = made.config, copy.deepcopy(made.generator), made.optimizer.defaults
    latent = copied.draw(config.batch, rng(seed))[0].requires_grad_()
    adam = torch.optim.Adam(
        [{"params": copied.parameters(), "lr": config.lr_g}, {"params": [latent], "lr": config.lr_z}], betas=groups["betas"]
    )
    gradients, shown = [], []
    for _ in range(config.steps):
        shown.append(copied(latent))
        adam.zero_grad()
        loss_of(shown[-1]).backward()
        gradients.append([one.grad.clone() for one in copied.parameters()])
        adam.step()
    return gradients, shown


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_the_meta_gradient_is_the_sum_of_the_gradients_of_the_steps(steps):
    made = inverter(steps=steps)
    by_hand = [torch.zeros_like(one) for one in made.generator.parameters()]
    for seed in (0, 1):
        weights = [one.detach().clone() for one in made.generator.parameters()]
        gradients, shown = gradients_of_a_copy(made, seed)
        by_hand = [sum(parts) for parts in zip(*gradients)]
        found = made.invert(loss_of, seed, rng(seed))
        for one, summed in zip(made.generator.parameters(), by_hand):
            close(one.grad, summed, rtol=1e-3, atol=1e-5)
        close(found, shown[-1], rtol=1e-3)  # a convex problem: the last step is the best
        if not seed:  # Adam's first step is of the size of its rate, against the gradient
            for one, before, summed in zip(made.generator.parameters(), weights, by_hand):
                close(before - one, 0.05 * steps * summed.sign(), rtol=1e-3)


def test_the_statistics_of_the_copy_become_those_of_the_generator():
    made = inverter(steps=4)
    made.invert(loss_of, 0, rng())
    assert made.generator.passes == 4
    made.invert(loss_of, 1, rng(1))
    assert made.generator.passes == 8


@pytest.mark.parametrize("name", METHODS)
def test_the_first_layers_start_anew_in_one_round_alone(name, teacher, monkeypatch):
    method = build(
        name, teacher, **alone(name, "bn"), rounds=7, warmup=2, reset=0.4, batch=4
    )  # 0.4 of five rounds, from the third
    generator, changed = method.inverter.generator, []
    torch.nn.init.ones_(generator.norm.bias)
    monkeypatch.setattr(method.inverter.optimizer, "step", lambda: None)  # else each round changes all
    for index in range(7):
        before = {key: value.detach().clone() for key, value in generator.named_parameters()}
        method.round(index)
        changed.append({key for key, value in generator.named_parameters() if not torch.equal(value, before[key])})
    assert changed == [set()] * 3 + [{"dense.weight", "dense.bias", "norm.weight", "norm.bias"}] + [set()] * 3
    assert 0.017 < generator.dense.weight.std() < 0.023 and generator.norm.weight.abs().max() < 0.1
    assert not generator.dense.bias.any() and not generator.norm.bias.any()


@pytest.mark.parametrize("name", METHODS)
def test_each_batch_starts_from_the_generator_that_is_kept(name, teacher, monkeypatch):
    method, starts, kept = build(name, teacher, **alone(name, "bn"), warmup=3), [], []
    plain = generator_inversion.refine

    def refine(generator, *arguments, **how):
        starts.append(generator.dense.weight.detach().clone())
        return plain(generator, *arguments, **how)

    monkeypatch.setattr(generator_inversion, "refine", refine)
    for index in range(3):
        kept.append(method.inverter.generator.dense.weight.detach().clone())
        method.round(index)
    assert all(torch.equal(one, other) for one, other in zip(starts, kept)) and len(starts) == 3
    assert not torch.equal(starts[0], starts[1]) and not torch.equal(starts[1], starts[2])


def after(generator, method, targets, steps=3):
    """The loss of fresh images, mean over batches, after some steps of a copy of a generator from fresh latent vectors."""
    lost = []
    for seed in range(4):
        copied = copy.deepcopy(generator).train()
        latent = copied.draw(16, rng(seed))[0].requires_grad_()
        adam = torch.optim.Adam([*copied.parameters(), latent], lr=0.003)
        for _ in range(steps):
            loss = method.objective(copied(latent), targets)
            adam.zero_grad()
            loss.backward()
            adam.step()
        lost.append(method.objective(copied(latent), targets).item())
    return sum(lost) / len(lost)


@pytest.mark.parametrize("name", METHODS)
def test_a_few_steps_get_further_from_the_meta_learnt_generator_than_from_a_fresh_one(name, teacher):
    method = build(name, teacher, **alone(name, "bn"), rounds=16, warmup=15, batch=16, steps=3, lr_g=0.05)
    fresh = new_generator(method.config, teacher, method.seed_of("another"), "cpu")
    for index in range(method.config.warmup):
        method.round(index)
    targets = torch.arange(16) % 10
    method.objective.averages = []  # of this batch alone
    lost = [after(one, method, targets) for one in (fresh, method.networks()["generator"])]
    assert lost[1] < 0.9 * lost[0]


@pytest.mark.parametrize("name", METHODS)
def test_the_generator_that_is_kept_is_meta_learnt(name, teacher):
    """Also before any step of a batch its images fit better."""
    method = build(name, teacher, **alone(name, "bn"), rounds=12, warmup=11, batch=16, lr_g=0.03)
    before = sampled(method.networks()["generator"])
    for index in range(method.config.warmup):
        method.round(index)
    method.objective.averages = []
    lost = [method.objective(one).item() for one in (before, sampled(method.networks()["generator"]))]
    assert lost[1] < 0.92 * lost[0]


@pytest.mark.parametrize("name", METHODS)
def test_statistics_are_averaged_over_the_rounds(name, teacher):
    method = build(name, teacher, **alone(name, "bn"), warmup=3, ema=0.9)
    method.round(0)
    first = [mean.clone() for mean, _ in method.objective.averages]
    method.round(1)
    second = [mean for mean, _ in method.objective.averages]
    assert len(first) == len(second) > 0 and not any(torch.equal(one, other) for one, other in zip(first, second))


@pytest.mark.parametrize("name", METHODS)
def test_the_losses_see_a_view_that_is_new_in_each_step(name, teacher, monkeypatch):
    method, seen = build(name, teacher, warmup=3, steps=2, lr_g=1e-9, lr_z=1e-9, view="flip-crop"), []
    forward = method.objective.forward
    monkeypatch.setattr(method.objective, "forward", lambda images, *rest: seen.append(images.detach()) or forward(images, *rest))
    method.round(0)
    assert len(seen) == 2 and not torch.allclose(seen[0], seen[1], atol=0.01)
