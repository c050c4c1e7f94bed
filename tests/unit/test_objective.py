"""The objective: each term against the formula on a network followed layer by layer, averages, weights, error lines."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from small_net import close, convolutions, wrap
from torch import nn

from dfkd_steps.methods.engines import image_losses, objective
from dfkd_steps.methods.engines.objective import NEEDS_STUDENT, TERMS, Objective
from dfkd_steps.models import look
from dfkd_steps.reporting import first_try
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas.transfer.options.objective import MEANING, weight

CLASSES = 3


@pytest.fixture
def teacher():
    return wrap(convolutions(CLASSES), classes=CLASSES)


@pytest.fixture
def images():
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()


def student(images):
    """Answers of its own, with a graph to the images."""
    return torch.stack([images.mean((1, 2, 3)), images[:, 0, 0, 0], images[:, 0, 3, 3]], 1) * 5


def config(**fields):
    return SimpleNamespace(**{"method": "some", "precision": "fp32", "distance": "kl", "smooth_to": 0.1, **fields})


def follow(teacher, images):
    """Logits, features before the classifier, and inputs of both BatchNorm layers."""
    conv1, norm1, _, conv2, norm2, _, _, _, last = teacher.net
    first = conv1((images - 0.3) / 0.4)
    second = conv2(F.relu(norm1(first)))
    features = F.relu(norm2(second)).mean((2, 3))
    return last(features), features, [(norm1, first), (norm2, second)]


def statistics(inputs):
    return [(inner.mean((0, 2, 3)), inner.var((0, 2, 3), correction=0)) for _, inner in inputs]


def gap(inputs, moments):
    """The L2 form of the loss on statistics."""
    return sum(
        (mean - norm.running_mean).norm() + (var - norm.running_var).norm() for (norm, _), (mean, var) in zip(inputs, moments)
    )


def expected(name, teacher, images, targets):
    logits, features, inputs = follow(teacher, images)
    p, q = F.softmax(logits, 1), F.softmax(student(images), 1)
    if name == "entropy":
        return -(p * p.log()).sum(1).mean()
    if name in ("onehot", "presence"):
        return -p.log()[range(len(images)), targets].mean()
    if name == "balance":
        return (p.mean(0) * p.mean(0).log()).sum()
    if name == "activation":
        return -features.abs().mean()
    if name == "bn":
        return gap(inputs, statistics(inputs))
    if name == "bn_kl":
        return sum(
            image_losses.statistics_kl(*pair, norm.running_mean, norm.running_var)
            for pair, (norm, _) in zip(statistics(inputs), inputs)
        )
    if name == "moments":
        of_data = torch.tensor([0.3]), torch.tensor([0.16])
        return image_losses.statistics_kl(images.mean()[None], images.var(correction=0)[None], *of_data)
    if name == "adversarial":
        return -(p * (p / q).log()).sum(1).mean()
    if name == "jsd":
        return 1 - image_losses.jensen_shannon(student(images), logits, 3.0)
    if name == "roughness":
        return (image_losses.roughness(images) - 0.1).abs()
    if name == "patches":  # a network without attention: its last maps of each size
        maps = [F.relu(norm(inner)) for norm, inner in inputs]
        return -sum(image_losses.patch_entropy(one.flatten(2).transpose(1, 2), len(one)).mean() for one in maps)
    return {"tv": image_losses.total_variation, "l2": image_losses.l2}[name](images)


def test_every_term_has_a_meaning():
    assert set(TERMS) == set(MEANING)


@pytest.mark.parametrize("name", TERMS)
def test_each_term_alone(name, teacher, images):
    targets = torch.tensor([0, 1, 2, 2, 1, 0])
    made = Objective(config(**{name: 2.5}), teacher)
    assert made.needs_student == (name in NEEDS_STUDENT)
    found = made.terms(made.forward(images, targets, student if name in NEEDS_STUDENT else None))
    assert list(found) == [name]
    close(found[name], 2.5 * expected(name, teacher, images, targets))
    (gradient,) = torch.autograd.grad(found[name], images)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    assert all(one.grad is None for one in teacher.parameters())


def test_terms_together_are_summed(teacher, images):
    weights = dict(zip(TERMS, range(1, 20)))
    made, targets = Objective(config(**weights), teacher), torch.zeros(6, dtype=torch.long)
    by_hand = sum(weight * expected(name, teacher, images, targets) for name, weight in weights.items())
    close(made(images, targets, student), by_hand)


@pytest.mark.parametrize(("name", "first"), [("bn", 10.0), ("bn", 0.0), ("bn_kl", 3.0)])
def test_the_first_layer_has_a_weight_of_its_own(name, first, teacher, images):
    """As in DeepInversion's ImageNet script, where it counts ten times."""
    made = Objective(config(**{name: 2.5, "bn_first": first}), teacher)
    _, _, inputs = follow(teacher, images)
    compare = image_losses.statistics_kl if name == "bn_kl" else image_losses.statistics_l2
    each = [compare(*pair, norm.running_mean, norm.running_var) for pair, (norm, _) in zip(statistics(inputs), inputs)]
    close(made(images), 2.5 * (first * each[0] + each[1]))


def test_without_targets_the_likeliest_classes_are(teacher, images):
    made = Objective(config(onehot=1.0), teacher)
    close(made(images), expected("onehot", teacher, images, teacher(images).argmax(1)))


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_downhill_images_come_nearer_to_the_roughness_that_is_asked_for(share, teacher, images):
    """From above and from below: images that are smoother than that are made rougher."""
    rough = image_losses.roughness(images).item()
    made = Objective(config(roughness=1.0, smooth_to=share * rough), teacher)
    loss = made(images)
    (gradient,) = torch.autograd.grad(loss, images)
    assert loss.item() == pytest.approx(abs(1 - share) * rough, rel=1e-4)
    moved = image_losses.roughness(images - gradient).item()
    assert moved < rough if share < 1 else moved > rough


def test_distances(teacher, images):
    logits, student_logits = teacher(images), student(images)
    found = {
        name: Objective(config(adversarial=1.0, distance=name), teacher)(images, None, student)
        for name in ("l1", "decision", "kl-mean")
    }
    close(found["l1"], -(logits - student_logits).abs().mean())
    each = F.softmax(logits, 1) * (F.log_softmax(logits, 1) - F.log_softmax(student_logits, 1))
    agreed = logits.argmax(1) == student_logits.argmax(1)
    assert 0 < agreed.sum() < len(images)
    close(found["decision"], -each.sum(1)[agreed].sum() / len(images))
    close(found["kl-mean"], -each.mean())  # over images and classes


@pytest.mark.parametrize("name", NEEDS_STUDENT)
def test_downhill_teacher_and_student_differ_more(name, teacher, images):
    made = Objective(config(**{name: 1.0}), teacher)
    (gradient,) = torch.autograd.grad(made(images, None, student), images)
    moved = images - 0.5 * gradient
    assert image_losses.jensen_shannon(student(moved), teacher(moved), 3.0) > image_losses.jensen_shannon(
        student(images), teacher(images), 3.0
    )


def test_samples_are_weighted_where_a_loss_has_one_value_each(teacher, images):
    made, each = Objective(config(onehot=2.0, activation=1.0, bn=1.0), teacher), torch.tensor([0.0, 3, 1, 0, 0, 2])
    outputs = made.forward(images, torch.zeros(6, dtype=torch.long))
    plain, weighted = made.terms(outputs), made.terms(outputs, each)
    alone = F.cross_entropy(outputs.teacher_logits, outputs.targets, reduction="none")
    close(weighted["onehot"], 2 * (3 * alone[1] + alone[2] + 2 * alone[5]) / 6)
    close(weighted["activation"], -(outputs.features.abs().mean(1) * each).mean())
    assert weighted["bn"] == plain["bn"] and weighted["onehot"] != plain["onehot"]


def test_running_averages_stand_for_earlier_batches(teacher, images):
    made, others = Objective(config(bn=1.0), teacher, 0.9), [torch.rand(5, 1, 8, 8), torch.rand(4, 1, 8, 8)]
    past = None
    for batch in (images, *others):
        *_, inputs = follow(teacher, batch)
        now = statistics(inputs)
        if past:
            now = [tuple(0.9 * old + 0.1 * new for old, new in zip(*pairs)) for pairs in zip(past, now)]
        close(made(batch), gap(inputs, now))
        close(made(batch), gap(inputs, now))  # a forward pass alone is not remembered
        made.remember()
        past = [[one.detach() for one in pair] for pair in now]
    assert all(not one.requires_grad for pair in made.averages for one in pair)


def test_without_ema_nothing_is_remembered(teacher, images):
    made = Objective(config(bn=1.0), teacher)
    made(images)
    made.remember()
    assert made.averages == []


def test_a_student_that_no_loss_needs_is_not_asked(teacher, images):
    def never(images):
        raise AssertionError

    assert Objective(config(onehot=1.0, adversarial=0.0), teacher)(images, None, never) > 0


def test_all_weights_zero_is_one_line(teacher):
    with pytest.raises(UserError, match=r"^transfer: some: the weight of every loss is 0; give at least one of onehot, .*tv"):
        Objective(config(onehot=0.0), teacher)


@pytest.mark.parametrize(("fields", "switch"), [({"bn": 1.0}, "+bn=0"), ({"bn": 1.0, "bn_kl": 1.0, "tv": 1.0}, "+bn=0+bn_kl=0")])
def test_no_batchnorm_is_one_line_that_says_how_to_switch_off(fields, switch):
    plain = wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)), classes=CLASSES)
    with pytest.raises(UserError, match="has no BatchNorm statistics") as caught:
        Objective(config(**fields), plain)
    assert "\n" not in str(caught.value) and f"({switch})" in str(caught.value)
    assert Objective(config(onehot=1.0, bn=0.0), plain)(torch.rand(2, 1, 8, 8)) > 0


class WithHead(nn.Module):
    """A second head, with BatchNorm, that computes in training mode alone, as auxiliary classifiers do."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.norm = nn.Conv2d(1, 4, 3), nn.Linear(4, CLASSES), nn.BatchNorm2d(4)

    def forward(self, images):
        features = self.first(images)
        if self.training:
            self.norm(features)
        return self.last(features.mean((2, 3)))


def test_batchnorm_that_no_image_reaches_is_none():
    net = wrap(WithHead(), classes=CLASSES)
    with pytest.raises(UserError, match=r"WithHead: has no BatchNorm statistics.*\(\+bn=0\)"):
        Objective(config(bn=1.0), net)
    assert "no BatchNorm statistics, which some methods need" in look.look(net) and first_try.data_free(net).startswith("zskt")
    net.net.first = nn.Sequential(net.net.first, shared := nn.BatchNorm2d(4), nn.ReLU(), shared)
    state = {name: value.clone() for name, value in net.eval().state_dict().items()}
    assert Objective(config(bn=1.0), net)(torch.rand(2, 1, 8, 8)) > 0
    assert "1 BatchNorm layers with statistics" in look.look(net) and first_try.data_free(net).startswith("nayer")
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_features_need_a_linear_classifier():
    pooled = wrap(nn.Sequential(nn.Conv2d(1, CLASSES, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), classes=CLASSES)
    with pytest.raises(UserError, match="do not come from a linear layer"):
        Objective(config(activation=1.0), pooled)


def test_hooks_do_not_outlive_the_forward_pass(teacher, images):
    made = Objective(config(bn=1.0, activation=1.0), teacher)
    made(images)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())


def test_weights_as_config_fields():
    assert weight("tv", 0.5).metadata["lo"] == 0 and MEANING["tv"] in weight("tv", 0.5).metadata["doc"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_require_finite(value):
    objective.require_finite(1.5, "round 3", "lower lr")
    with pytest.raises(UserError, match=rf"^round 3: the loss is {value}; lower lr$"):
        objective.require_finite(value, "round 3", "lower lr")
