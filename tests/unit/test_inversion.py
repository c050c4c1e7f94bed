"""The engines: what refine keeps, how alternating training collects its images, and the error lines of their configs."""

import pytest
import torch
from small_net import CPU, classifier, close, wrap
from torch import nn

from dfkd_steps.methods import registry as method_registry
from dfkd_steps.methods.engines import generator_inversion, objective
from dfkd_steps.pipeline import params
from dfkd_steps.runtime.errors import UserError


class Maker(nn.Module):
    """Images are the latent vectors, plus a number that is trained."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, latent):
        return (latent + self.level).view(-1, 1, 2, 2)


def refine(losses, generator=None, **how):
    """Runs refine under losses with given values; returns the images, those of each step, and the gradients seen."""
    generator, shown, gradients = generator or Maker(), [], []

    def loss_of(images):
        shown.append(images.detach().clone())
        return losses[len(shown) - 1] + (images - images.detach()).sum()

    latent = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    settings = {"steps": len(losses), "lr_g": 0.1, "lr_z": 0.01, "precision": "fp32", **how}

    def after(step):
        gradients.append((step, generator.level.grad.clone()))

    before = latent.clone()
    found = generator_inversion.refine(generator, latent, loss_of, after=after, **settings)
    assert torch.equal(latent, before) and not found.requires_grad
    return found, shown, gradients


@pytest.mark.parametrize(("losses", "best"), [([3, 1, 2], 1), ([1, 2, 3], 0), ([3, 2, 1], 2), ([2, 1, 1], 1), ([5], 0)])
def test_refine_keeps_the_images_of_the_step_with_the_least_loss(losses, best):
    found, shown, _ = refine(losses)
    assert torch.equal(found, shown[best])
    assert all(not torch.equal(one, found) for step, one in enumerate(shown) if step != best)


def test_refine_moves_generator_and_latent_vectors_each_at_its_own_rate():
    _, shown, gradients = refine([3, 2, 1])
    close(shown[1], shown[0] - 0.1 - 0.01)  # Adam's steps along a constant gradient are of the size of its rate
    close(shown[2], shown[0] - 2 * (0.1 + 0.01))
    assert gradients == [(0, torch.tensor(12.0)), (1, torch.tensor(12.0)), (2, torch.tensor(12.0))]  # in place, not summed


def test_refine_trains_further_parameters_along():
    further, generator = nn.Parameter(torch.ones(2)), Maker()
    latent = torch.rand(3, 4)
    generator_inversion.refine(
        generator, latent, lambda images: images.mean() + further.sum(), steps=1, lr_g=0.1, lr_z=0.01, precision="fp32",
        further=iter([further]),
    )  # fmt: skip
    close(further, torch.tensor([0.9, 0.9]))
    close(generator.level, torch.tensor(-0.1))


@pytest.mark.parametrize("losses", [[float("nan")], [2, float("nan"), 1], [float("inf")]])
def test_refine_stops_where_the_loss_is_no_number(losses):
    with pytest.raises(UserError, match=r"inversion: the loss is (nan|inf); lower lr_g and lr_z"):
        refine(losses)


@pytest.fixture(scope="module")
def teacher():
    return classifier()


ALTERNATING = {"train_batch": 4, "latent": 4, "width": 2, "student": "resnet8"}


@pytest.mark.parametrize(("n", "rounds", "share", "kept"), [(20, 4, 0.5, 2), (20, 3, 1.0, 3), (7, 5, 0.01, 1), (5, 10, 0.7, 7)])
def test_alternating_training_collects_evenly_from_its_last_rounds(teacher, n, rounds, share, kept):
    made = method_registry.load("dafl").Config(method="dafl", n=n, rounds=rounds, collect=share, **ALTERNATING)
    training = method_registry.load("dafl")(made, teacher, [], CPU)
    counts = []
    for index in range(rounds):
        before = len(training.pool)
        training.collect(index, training.rng("round", index))
        counts.append(len(training.pool) - before)
    assert counts[: rounds - kept] == [0] * (rounds - kept) and sum(counts) == n == len(training.pool)
    assert max(counts[rounds - kept :]) - min(counts[rounds - kept :]) <= 1
    assert training.pool.rounds.bincount(minlength=rounds).tolist() == counts
    assert len(training.pool.images.flatten(1).unique(dim=0)) == n


@pytest.mark.parametrize("same", [True, False])
def test_the_student_of_alternating_training_sees_the_same_images_or_new_ones(teacher, same, monkeypatch):
    made = method_registry.load("zskt").Config(
        method="zskt", **{**ALTERNATING, "n": 8, "rounds": 1, "turns": 2, "steps_g": 2, "steps_s": 3, "same": same}
    )
    training, seen = method_registry.load("zskt")(made, teacher, [], CPU), []

    def step(images, progress, rng):
        seen.append((images.clone(), progress))
        assert not images.requires_grad
        return torch.zeros(len(images))

    monkeypatch.setattr(training.student, "step", step)
    training.round(0)
    assert [progress for _, progress in seen] == [0.0] * 3 + [0.5] * 3
    assert len(torch.stack([images for images, _ in seen]).flatten(1).unique(dim=0)) == (2 if same else 6)


def test_alternating_training_that_diverges_is_one_line(teacher):
    made = method_registry.load("dfad").Config(method="dfad", **{**ALTERNATING, "n": 8, "rounds": 1, "turns": 3, "lr_s": 1e30})
    with pytest.raises(UserError, match=r"^dfad: round 1: the loss is (nan|inf); lower lr_g or lr_s, or set clip_g and clip_s$"):
        method_registry.load("dfad")(made, teacher, [], CPU).round(0)


CONFIGS = {
    "cmi+n=100": "batch: 256 is more than the n: 100 places of the pool; lower batch or raise n",
    "fast+rounds=30": "n: 20000 is more than the 7680 images of 30 rounds of 256; lower n or raise rounds",
    "adi+n=512+rounds=20": "warmup: 20 leaves no round for the student; lower it or raise rounds",
    "ssd-kd+rounds=19+warmup=3": "n: 5000 is more than the 4864 images of 19 rounds of 256; lower n or raise rounds",
    "fast+ema=1": "ema: '1' is above 0.999, the most allowed",
    "dafl+collect=0": "collect: '0' must be above 0",
    "dfad+train_batch=1": "train_batch: '1' is below 2, the least allowed",
    "zskt+distance=l2": "distance: 'l2' is unknown",
    "dfq+head=tanh": "head: 'tanh' is unknown",
    "generative+members=0": "members: '0' is below 1, the least allowed",
    "soft-targeted+sigma=0": "sigma: '0' must be above 0",
    "ssd-kd+renew=0": "renew: '0' must be above 0",
    "ssd-kd+renew=1.5": "renew: '1.5' is above 1, the most allowed",
    "deepinversion+tv=-1": "tv: '-1' is below 0, the least allowed",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_configs_that_cannot_work_are_one_line(text, repository):
    with pytest.raises(UserError) as caught:
        params.load("transfer", text, repository / "params")
    assert CONFIGS[text] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["fast+n=256+rounds=1+warmup=0", "cmi+rounds=196", "ssd-kd+rounds=21"])
def test_configs_at_the_limit_work(text, repository):
    assert params.load("transfer", text, repository / "params").check() is None


SHORT = {"n": 8, "batch": 8, "rounds": 3, "steps_s": 1, "latent": 4, "width": 2, "steps": 2, "student": "resnet8"}


def test_rounds_before_there_is_a_student_need_a_loss_without_one(teacher):
    alone = {"bn": 0.0, "onehot": 0.0}
    for name, warmup in (("fast", 0), ("cmi", 1)):  # the contrastive loss of cmi needs none
        made = method_registry.load(name).Config(method=name, **SHORT, **alone, warmup=warmup)
        method_registry.load(name)(made, teacher, [], CPU).round(0)
    made = method_registry.load("fast").Config(method="fast", **SHORT, **alone, warmup=1)
    with pytest.raises(UserError, match=r"^transfer: warmup: every loss needs a student; set warmup: 0, or .* another loss$"):
        method_registry.load("fast")(made, teacher, [], CPU).round(0)


def test_losses_that_need_a_student_wait_for_it(teacher, monkeypatch):
    values = {"n": 8, "batch": 8, "rounds": 3, "warmup": 2, "latent": 4, "width": 2, "student": "resnet8"}
    fast = method_registry.load("fast")
    method, found = fast(fast.Config(method="fast", **values), teacher, [], CPU), []
    monkeypatch.setattr(objective, "total", lambda terms: (found.append(set(terms)), sum(terms.values()))[1])
    monkeypatch.setattr(method.student, "step", lambda images, progress, rng, weights: progress * torch.ones(1))
    told = [method.round(index) for index in range(3)]
    assert found == [{"bn", "onehot"}] * 10 + [{"bn", "onehot", "adversarial"}] * 5
    assert told[:2] == [None, None] and float(told[2].removeprefix("student ")) == pytest.approx(399 / 800, abs=1e-4)
    assert [method.config.progress(index, step) for index, step in ((2, 0), (2, 200))] == [0.0, 0.5]


def cmi_method(teacher, **changed):
    cls = method_registry.load("cmi")
    return cls(cls.Config(method="cmi", **{**SHORT, "steps": 3, "warmup": 1, **changed}), teacher, [], CPU)


def test_cmi_tells_images_apart_by_the_means_of_the_stages(teacher):
    images, net = torch.rand(5, 1, 8, 8), teacher.net
    maps = [torch.relu(net.bn1(net.conv1((images - teacher.mean) / teacher.std)))]
    for layer in (net.layer1, net.layer2, net.layer3):
        maps.append(layer(maps[-1]))
    close(cmi_method(teacher).discriminator.features(images), torch.cat([one.mean((2, 3)) for one in reversed(maps[1:])], 1))


@pytest.mark.parametrize(("contrastive", "times"), [(0.8, 2), (0.0, 1)])
def test_cmi_asks_the_teacher_about_two_views_in_a_step(teacher, contrastive, times):
    method, asked = cmi_method(teacher, contrastive=contrastive), []
    handle = teacher.register_forward_hook(lambda *_: asked.append(0))
    method.round(0)  # without student steps
    handle.remove()
    assert len(asked) == 3 * times + 1  # and once about the images that it keeps


def test_cmi_needs_feature_maps():
    plain = wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(UserError, match=r"^transfer: cmi: the teacher has no feature maps to tell images apart by"):
        cmi_method(plain, bn=0.0)
