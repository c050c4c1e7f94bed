"""The engines: what refine keeps, how alternating training collects its images, and the error lines of their configs."""

import copy

import pytest
import torch
from small_net import CPU, classifier, close, wrap
from torch import nn

from dfkd_steps.methods import cmi
from dfkd_steps.methods import registry as method_registry
from dfkd_steps.methods.engines import generator_inversion, objective
from dfkd_steps.pipeline import params
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas.transfer.fast import FastConfig
from dfkd_steps.training.augment import resized_crop


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
    kept = []
    found = generator_inversion.refine(generator, latent, loss_of, after=after, latents=kept, **settings)
    assert torch.equal(latent, before) and not found.requires_grad and not kept[0].requires_grad
    # The latent vectors are those of the images, which are their sum with a level that moves ten times as fast.
    best = next(step for step, one in enumerate(shown) if torch.equal(one, found))
    close(kept[0], latent - settings["lr_z"] * best, rtol=1e-3)
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


def student_images(teacher, images_s, monkeypatch, **changed):
    """The images that the student sees in two turns of three steps, those of the last generator step of each turn, and how
    often the teacher was asked outside the generator's loss."""
    made = method_registry.load("zskt").Config(
        method="zskt",
        **{**ALTERNATING, "n": 8, "rounds": 1, "turns": 2, "steps_g": 2, "steps_s": 3, "images_s": images_s, **changed},
    )
    training, seen, drawn, asked = method_registry.load("zskt")(made, teacher, [], CPU), [], [], []
    step, images_of = training.student.step, training.generator.images

    def kept_step(images, progress, rng, answer=None):
        seen.append((images.clone(), progress))
        assert not images.requires_grad
        return step(images, progress, rng, answer=answer)

    def kept_images(latent):
        images = images_of(latent)
        drawn.append((latent, images.detach(), torch.is_grad_enabled()))
        return images

    ask = training.student.ask_teacher
    monkeypatch.setattr(training.student, "ask_teacher", lambda images: (asked.append(0), ask(images))[1])
    monkeypatch.setattr(training.student, "step", kept_step)
    monkeypatch.setattr(training.generator, "images", kept_images)
    training.round(0)
    assert [progress for _, progress in seen] == [0.0] * 3 + [0.5] * 3
    return [images for images, _ in seen], drawn, len(asked)


def test_a_student_may_see_new_images_in_each_step(teacher, monkeypatch):
    seen, _, asked = student_images(teacher, "new", monkeypatch)
    assert len(torch.stack(seen).flatten(1).unique(dim=0)) == 6 and asked == 6


@pytest.mark.parametrize("images_s", ["before", "after"])
def test_a_student_may_see_the_images_of_the_generator_step(teacher, monkeypatch, images_s):
    """As they were before that step (DAFL), or those of the same latent vectors after it (ZSKT); the teacher is asked once."""
    seen, drawn, asked = student_images(teacher, images_s, monkeypatch)
    assert all(torch.equal(seen[0], one) for one in seen[1:3]) and asked == 2
    latent, before, _ = [one for one in drawn if one[2]][1]  # of the first turn's second generator step
    assert torch.equal(seen[0], before) == (images_s == "before")
    if images_s == "after":
        again, after, _ = next(one for one in drawn if not one[2])
        assert torch.equal(latent, again) and torch.equal(seen[0], after) and not torch.equal(after, before)


def test_views_are_asked_about_in_each_step(teacher, monkeypatch):
    assert student_images(teacher, "after", monkeypatch, view_s="shift")[2] == 6


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_mode_of_the_generator_that_draws_for_the_student(teacher, mode):
    made = method_registry.load("dfad").Config(method="dfad", **{**ALTERNATING, "n": 8, "mode_g": mode})
    generator = method_registry.load("dfad")(made, teacher, [], CPU).generator
    latent = torch.randn(4, 4)
    whole = generator.images_for_student(latent)
    alone = generator.images_for_student(latent[:1])
    assert torch.allclose(whole[:1], alone, atol=1e-5) == (mode == "eval")


def test_alternating_training_that_diverges_is_one_line(teacher):
    made = method_registry.load("dfad").Config(method="dfad", **{**ALTERNATING, "n": 8, "rounds": 1, "turns": 3, "lr_s": 1e30})
    with pytest.raises(UserError, match=r"^dfad: round 1: the loss is (nan|inf); lower lr_g or lr_s, or set clip_g and clip_s$"):
        method_registry.load("dfad")(made, teacher, [], CPU).round(0)


CONFIGS = {
    "cmi+n=100": "batch: 256 is more than n: 100, the size of the pool; lower batch or raise n",
    "fast-5+rounds=30": "n: 56320 is more than the 7680 images of 30 rounds of 256; lower n or raise rounds",
    "adi-cmi+n=512+rounds=20+warmup=20": "warmup: 20 leaves no round for the student; lower it or raise rounds",
    "ssd-kd+rounds=19+warmup=3": "n: 5000 is more than the 4864 images of 19 rounds of 256; lower n or raise rounds",
    "fast-5+ema=1": "ema: '1' is above 0.999, the maximum",
    "dafl+collect=0": "collect: '0' must be above 0",
    "dfad+train_batch=1": "train_batch: '1' is below 2, the minimum",
    "zskt+distance=l2": "distance: 'l2' is unknown",
    "dfq-cmi+arch_g=other": "arch_g: 'other' is unknown",
    "generative+members=0": "members: '0' is below 1, the minimum",
    "generative+members=5+n=4": "members: 5 generators for n: 4 samples; lower members or raise n",
    "soft-targeted+sigma=0": "sigma: '0' must be above 0",
    "ssd-kd+renew=0": "renew: '0' must be above 0",
    "ssd-kd+renew=1.5": "renew: '1.5' is above 1, the maximum",
    "deepinversion+tv=-1": "tv: '-1' is below 0, the minimum",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_configs_that_cannot_work_are_one_line(text, repository):
    with pytest.raises(UserError) as caught:
        params.load("transfer", text, repository / "params")
    assert CONFIGS[text] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["fast-5+n=256+rounds=1+warmup=0", "cmi+n=50176+rounds=196", "ssd-kd+rounds=21"])
def test_configs_at_the_limit_work(text, repository):
    assert params.load("transfer", text, repository / "params").check() is None


SHORT = {"n": 8, "batch": 8, "rounds": 3, "steps_s": 1, "latent": 4, "width": 2, "steps": 2, "student": "resnet8"}


def test_rounds_before_there_is_a_student_need_a_loss_without_one(teacher):
    alone = {"bn": 0.0, "onehot": 0.0}
    for name, warmup in (("fast", 0), ("cmi", 1)):  # the contrastive loss of cmi needs none
        made = method_registry.load(name).Config(method=name, **SHORT, **alone, warmup=warmup)
        method_registry.load(name)(made, teacher, [], CPU).round(0)
    made = method_registry.load("fast").Config(method="fast", **SHORT, **alone, warmup=1)
    with pytest.raises(
        UserError, match=r"^transfer: warmup: every loss needs a student, and .*; set warmup: 0, or give another loss a weight$"
    ):
        method_registry.load("fast")(made, teacher, [], CPU).round(0)


def test_losses_that_need_a_student_wait_for_it(teacher, monkeypatch):
    values = {"n": 8, "batch": 8, "rounds": 3, "warmup": 2, "latent": 4, "width": 2, "student": "resnet8"}
    fast = method_registry.load("fast")
    method, found = fast(fast.Config(method="fast", **values), teacher, [], CPU), []
    monkeypatch.setattr(objective, "total", lambda terms: (found.append(set(terms)), sum(terms.values()))[1])

    def step(images, progress, rng, weights, answer):
        method.student.sums += torch.tensor([progress, 0.0])
        method.student.summed += 1
        return progress * torch.ones(1)

    monkeypatch.setattr(method.student, "step", step)
    told = [method.round(index) for index in range(3)]
    assert found == [{"bn", "onehot"}] * 10 + [{"bn", "onehot", "adversarial"}] * 5
    assert told[:2] == [None, None] and told[2]["loss"] == pytest.approx(399 / 800, abs=1e-4)
    assert [method.config.progress(index, step) for index, step in ((2, 0), (2, 200))] == [0.0, 0.5]


def cmi_method(teacher, **changed):
    cls = method_registry.load("cmi")
    return cls(cls.Config(method="cmi", **{**SHORT, "steps": 3, "warmup": 1, **changed}), teacher, [], CPU)


def test_cmi_tells_images_apart_by_what_enters_the_batchnorms(teacher):
    images, net = torch.rand(5, 1, 8, 8), teacher.net
    wanted = []
    for module in (one for one in net.modules() if isinstance(one, nn.BatchNorm2d)):
        handle = module.register_forward_hook(lambda module, inputs, output: wanted.append(inputs[0].mean((2, 3))))
        teacher(images)
        handle.remove()
    assert len(wanted) == len([one for one in net.modules() if isinstance(one, nn.BatchNorm2d)]) > 6
    close(cmi_method(teacher).discriminator.features(images).sort().values, torch.cat(wanted, 1).sort().values)


def test_cmi_takes_what_enters_the_stages_of_a_resnet34():
    asked, images = classifier("resnet34"), torch.rand(2, 1, 8, 8)
    made = cmi_method(asked).discriminator
    net = asked.net
    maps = [torch.relu(net.bn1(net.conv1((images - asked.mean) / asked.std)))]
    for layer in (net.layer1, net.layer2, net.layer3):
        maps.append(layer(maps[-1]))
    found = made.features(images)
    assert found.shape == (2, 64 + 64 + 128 + 256)
    close(found, torch.cat([one.mean((2, 3)) for one in maps], 1))


@pytest.mark.parametrize(("contrastive", "times"), [(0.8, 3 * 2 + 2), (0.0, 3)])
def test_cmi_asks_the_teacher_about_two_views_in_a_step(teacher, contrastive, times):
    """And about two views of the images that it keeps; about nothing of these where nothing is contrasted."""
    method, asked = cmi_method(teacher, contrastive=contrastive), []
    handle = teacher.register_forward_hook(lambda *_: asked.append(0))
    method.round(0)  # without student steps
    handle.remove()
    assert len(asked) == times


def test_the_head_of_cmi_is_as_wide_as_its_input_and_learns_through_all_rounds(teacher):
    made = cmi_method(teacher, warmup=2)
    first, _, last = made.discriminator.net
    assert first.out_features == first.in_features == made.discriminator.width and last.out_features == 256
    group = made.discriminator.optimizer.param_groups[0]
    assert (group["lr"], group["betas"]) == (made.config.lr_g, (0.9, 0.999))
    before = first.weight.detach().clone()
    made.round(0)
    middle = first.weight.detach().clone()
    made.round(1)
    assert not torch.equal(before, middle) and not torch.equal(middle, first.weight)
    assert made.discriminator.optimizer.state[first.weight]["step"] == 6  # three in each round: its moments are kept
    assert first.weight.grad is None


def test_the_bank_of_cmi_is_a_ring(teacher):
    made = cmi_method(teacher).discriminator
    rows = torch.arange(24.0).view(3, 8, 1).expand(3, 8, made.width)
    for number in range(3):
        made.remember(rows[number], -rows[number])
        kept = rows[number] if number < 3 else None
        assert torch.equal(made.bank[:, 0], kept) and torch.equal(made.bank[:, 1], -kept)  # as many places as images: n
    assert made.written == 24


def test_anchors_of_cmi_are_the_parts_and_keys_take_no_gradient(teacher):
    made = cmi_method(teacher, bank=4).discriminator
    part, whole = (torch.randn(8, made.width, requires_grad=True) for _ in range(2))
    made.remember(torch.randn(8, made.width), torch.randn(8, made.width))
    assert made.bank.dtype == torch.float16
    loss = made.loss(part, whole, torch.Generator().manual_seed(0))
    loss.backward()
    assert part.grad.abs().max() > 0 and whole.grad is None
    earlier = made.bank[torch.randperm(8, generator=torch.Generator().manual_seed(0))[:4]]
    anchors, keys = (made.embed(torch.cat(both)) for both in ((part, earlier[:, 0]), (whole, earlier[:, 1])))
    each = -torch.log_softmax(anchors @ keys.T / made.config.tau_c, 1).diagonal()
    close(loss, each[:8].mean() + each[8:].mean())  # those of the bank are anchors too


def test_the_local_view_of_cmi():
    """A quarter to all of the area, no borders, half of them mirrored: by images whose colours are the coordinates."""
    across, down = torch.linspace(0, 1, 64).expand(64, 64), torch.linspace(0, 1, 64)[:, None].expand(64, 64)
    seen = resized_crop(torch.stack([across, down])[None].expand(400, 2, 64, 64), torch.Generator().manual_seed(0))
    width, height = seen[:, 0, 0, -1] - seen[:, 0, 0, 0], seen[:, 1, -1, 0] - seen[:, 1, 0, 0]
    mirrored = (width < 0).float().mean()
    area, ratio = width.abs() * height, width.abs() / height
    assert 0.4 < mirrored < 0.6 and height.min() > 0
    assert 0.22 < area.min() < 0.3 and 0.9 < area.max() <= 1.0 and 0.55 < area.mean() < 0.68
    assert ratio.min() > 0.72 and ratio.max() < 1.4
    assert seen[:, 0].amax((1, 2)).max() <= 1 and seen.min() >= 0


def test_cmi_starts_each_batch_from_a_generator_drawn_as_dcgan_is(teacher, monkeypatch):
    started = []

    def refine(generator, latent, *_, **__):
        started.append(copy.deepcopy(generator))
        images = generator(latent).detach()
        for parameter in generator.parameters():
            parameter.data.add_(1)  # as if it had learnt: the next batch does not go on from there
        return images

    monkeypatch.setattr(cmi, "refine", refine)
    made = cmi_method(teacher, latent=50, width=32)
    for index in range(2):
        made.round(index)
    assert not torch.equal(started[0].dense.weight, started[1].dense.weight)
    for one in started:
        assert one.dense.weight.std().item() == pytest.approx(0.02, rel=0.05) and one.dense.bias.abs().max() == 0
        assert abs(one.dense.weight.mean()) < 0.001
        assert one.norm.weight.mean().item() == pytest.approx(1, abs=0.02) and 0.01 < one.norm.weight.std() < 0.03


def test_fast_draws_its_first_layers_anew_once(teacher):
    values = {**SHORT, "rounds": 12, "warmup": 2, "n": 8, "latent": 30, "width": 32}
    fast = method_registry.load("fast")
    method = fast(fast.Config(method="fast", **values), teacher, [], CPU)
    reset, spreads = method.inverter.reset_first_layers, []

    def recorded(rng):
        reset(rng)
        spreads.append((method.inverter.generator.dense.weight.std().item(), method.inverter.generator.norm.weight.std().item()))
        spreads.append((index, method.inverter.generator.norm.bias.abs().max().item()))

    method.inverter.reset_first_layers = recorded
    for index in range(12):
        method.round(index)
    assert len(spreads) == 2 and spreads[1] == (7, 0.0)  # 60 % of the ten rounds with a student, less one
    assert spreads[0][0] == pytest.approx(0.02, rel=0.1) and 0.01 < spreads[0][1] < 0.03
    assert FastConfig(method="fast").reset == 0.6


def test_cmi_needs_feature_maps():
    plain = wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(UserError, match=r"^transfer: cmi: the teacher has no feature maps, which the contrastive loss needs"):
        cmi_method(plain, bn=0.0)
