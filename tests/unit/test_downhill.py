"""Every method goes down each of its losses, and its student learns: measured on fresh images by formulas of this file."""

import pytest
import torch
import torch.nn.functional as F
from small_method import alone, answers, build, divergence, rng, sampled, spy_on_targets
from small_net import classifier

from dfkd_steps.models import hooks


@pytest.fixture(scope="module")
def teacher():
    return classifier(seed=1)


def measure(term, teacher, images, student=None, targets=None):
    """What a loss is to bring down, from images, logits and BatchNorm's inputs."""
    logits = answers(teacher, images)
    if term == "onehot":
        return F.cross_entropy(logits, logits.argmax(1) if targets is None else targets).item()
    if term == "tv":
        return (images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()).item()
    if term == "l2":
        return images.square().mean().item()
    if term == "balance":
        mean = F.softmax(logits, 1).mean(0)
        return (mean * mean.log()).sum().item()
    if term in ("adversarial", "jsd"):
        return -divergence(answers(student, images), logits)
    if term == "activation":
        with hooks.entering(teacher.net.linear) as features:
            answers(teacher, images)
        return -features[0].abs().mean().item()
    gaps = []

    def keep(module, inputs, output):
        batch = inputs[0].transpose(0, 1).flatten(1)
        gaps.append((batch.mean(1) - module.running_mean).norm() + (batch.var(1) - module.running_var).norm())

    norms = [one for one in teacher.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    handles = [one.register_forward_hook(keep) for one in norms]
    answers(teacher, images)
    for one in handles:
        one.remove()
    return sum(gaps).item()


GAMES = {
    "dafl": ("onehot", "balance", "activation"),
    "dfq": ("adversarial", "bn", "onehot", "balance"),
    "zskt": ("adversarial",),
    "dfad": ("adversarial",),
}


@pytest.mark.parametrize(("name", "term"), [(name, term) for name, terms in GAMES.items() for term in terms])
def test_the_generator_of_alternating_training_brings_each_loss_down(name, term, teacher):
    method = build(name, teacher, **alone(name, term), lr_g=0.03, lr_s=1e-12)  # a student that stands still
    before = sampled(method.networks()["generator"])
    method.round(0)
    after = sampled(method.networks()["generator"])
    student = method.networks()["student"]
    lost = [measure(term, teacher, images, student) for images in (before, after)]
    assert lost[1] < lost[0] - 0.05 * abs(lost[0])


@pytest.mark.parametrize("name", GAMES)
def test_the_student_of_alternating_training_learns_what_the_teacher_says(name, teacher):
    method = build(name, teacher, lr_g=1e-12, turns=6, steps_s=3)  # a generator that stands still
    images, student = sampled(method.networks()["generator"]), method.networks()["student"]
    before = divergence(answers(student, images), answers(teacher, images))
    method.round(0)
    after = divergence(answers(student, images), answers(teacher, images))
    assert after < 0.7 * before


PIXELS = {"deepinversion": ("onehot", "bn", "tv", "l2"), "adi": ("onehot", "bn", "jsd")}


@pytest.mark.parametrize(("name", "term"), [(name, term) for name, terms in PIXELS.items() for term in terms])
def test_pixels_bring_each_loss_down(name, term, teacher, monkeypatch):
    targets, images = spy_on_targets(monkeypatch), []
    for lr in (1e-9, 0.1):
        method = build(name, teacher, **alone(name, term), lr=lr)
        if method.rounds:
            method.config.warmup, method.config.lr_s = 0, 1e-12
            method.round(0)
        images.append(method.batch(0).images)
    assert targets[0] is not None  # the labels reach the losses
    student = method.networks().get("student")
    lost = [measure(term, teacher, one, student, targets[0]) for one in images]
    assert lost[1] < lost[0] - 0.2 * abs(lost[0])


INVERTERS = {
    "fast": ("onehot", "bn", "adversarial"),
    "ssd-kd": ("onehot", "bn", "adversarial"),
    "cmi": ("onehot", "bn", "adversarial"),
    "nayer": ("onehot", "bn", "adversarial"),
}


@pytest.mark.parametrize(("name", "term"), [(name, term) for name, terms in INVERTERS.items() for term in terms])
def test_a_generator_that_is_optimised_for_a_batch_brings_each_loss_down(name, term, teacher, monkeypatch):
    targets, images = spy_on_targets(monkeypatch), []
    for steps in (1, 12):  # the images of one step are those before any
        rates = {"lr_g": 0.03} if name == "nayer" else {"lr_g": 0.03, "lr_z": 0.1}
        method = build(name, teacher, **alone(name, term), steps=steps, **rates, distance="kl", warmup=0, lr_s=1e-12)
        method.round(0)
        images.append(method.pool.read(torch.arange(8)))
    assert targets[0] is not None  # the labels reach the losses
    lost = [measure(term, teacher, one, method.networks()["student"], targets[0]) for one in images]
    assert lost[1] < lost[0] - 0.05 * abs(lost[0])


@pytest.mark.parametrize("term", ["onehot", "bn"])
def test_ls_gdfd_brings_each_loss_down_and_heeds_its_labels(term, teacher):
    method = build("generative", teacher, **alone("generative", term), lr=0.03)
    generator = method.members[0].net
    labels = generator.draw(64, rng(7))[1]
    images = [sampled(generator)]
    method.round(0)
    images.append(sampled(generator))
    lost = [measure(term, teacher, one, None, labels) for one in images]
    assert lost[1] < lost[0] - 0.05 * abs(lost[0])
