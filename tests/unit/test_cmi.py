"""CMI: the bank of features, the head that learns to tell images apart, the contrastive loss by hand, and its local view."""

import math

import pytest
import torch
import torch.nn.functional as F
from small_method import alone, build, rng
from small_net import classifier, close, wrap
from torch import nn

from dfkd_steps.methods import cmi
from dfkd_steps.methods.engines import instance_discriminator
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.training.augment import resized_crop


@pytest.fixture(scope="module")
def teacher():
    return classifier(seed=1)


def features(teacher, images):
    """The means of each channel that enters a BatchNorm layer, in the order of use."""
    found = []

    def keep(module, inputs, output):
        found.append(inputs[0].mean((2, 3)))

    handles = [one.register_forward_hook(keep) for one in teacher.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        teacher(images)
    for one in handles:
        one.remove()
    return torch.cat(found, 1)


def test_the_bank_holds_the_features_of_the_images_of_the_pool(teacher, monkeypatch):
    monkeypatch.setattr(cmi, "resized_crop", lambda images, rng: images.flip(3))
    method = build("cmi", teacher, n=16, warmup=3)
    for index in range(3):  # 24 images into 16 places: the first eight are gone
        method.round(index)
    images = method.pool.read(torch.arange(16))
    assert method.pool.rounds.tolist() == [2] * 8 + [1] * 8 and method.discriminator.written == 24
    close(method.discriminator.bank[:, 1], features(teacher, images), atol=0.02)  # but for the rounding to 256 levels
    close(method.discriminator.bank[:, 0], features(teacher, images.flip(3)), atol=0.02)
    spread = (method.discriminator.bank[:8] - method.discriminator.bank[8:]).abs().mean()
    assert spread > 0.03  # which is more than that tolerance


def test_a_head_that_no_memory_holds_is_one_line(teacher, monkeypatch):
    """Of an EfficientNet with 21,000 channels it would take 7 GiB."""
    monkeypatch.setattr(instance_discriminator.memory, "most", lambda: 1000)
    with pytest.raises(UserError, match=r"transfer: cmi: needs a layer of \d+ x \d+ weights .* use another method"):
        build("cmi", teacher)


def test_the_bank_may_be_smaller_than_the_pool(teacher, monkeypatch):
    monkeypatch.setattr(instance_discriminator.InstanceDiscriminator, "BANK", 10)
    method = build("cmi", teacher, n=24, rounds=4, warmup=3)
    for index in range(2):
        method.round(index)
    assert method.discriminator.bank.shape[0] == 10 and (method.discriminator.bank.abs().sum((1, 2)) > 0).all()
    images = method.pool.read(torch.arange(16))
    close(method.discriminator.bank[:6, 1], features(teacher, images[10:]), atol=0.01)
    close(method.discriminator.bank[6:, 1], features(teacher, images[6:10]), atol=0.01)


def test_a_restored_bank_goes_on_where_the_other_was(teacher):
    """Of ten places, after sixteen images: the next one goes to the seventh."""
    discriminator, other = (build("cmi", teacher, n=10).discriminator for _ in range(2))
    rows = torch.arange(24.0).view(3, 8, 1).expand(3, 8, discriminator.width)
    for part in rows[:2]:
        discriminator.remember(part, -part)
    other.restore(discriminator.state())
    for bank in (discriminator, other):
        bank.remember(rows[2], -rows[2])
    assert torch.equal(discriminator.bank, other.bank) and discriminator.written == other.written == 24


def test_features_are_those_of_the_last_pass(teacher):
    discriminator, images = build("cmi", teacher).discriminator, torch.rand(3, 1, 8, 8)
    with discriminator.watch() as watched:
        for shown in (images, images.flip(0)):
            teacher(shown)
            close(watched(), features(teacher, shown))


@pytest.mark.parametrize("written", [0, 3, 8, 20])
def test_the_contrastive_loss_by_hand(written, teacher):
    """On features of four images and of what the bank holds, eight places."""
    method = build("cmi", teacher, n=8, bank=50, tau_c=0.2)
    discriminator = method.discriminator
    part, whole = (torch.rand(4, discriminator.width, generator=rng(seed)).requires_grad_() for seed in (0, 1))
    discriminator.bank.copy_(torch.rand(discriminator.bank.shape, generator=rng(2)))
    discriminator.written = written
    held = discriminator.bank[: min(written, 8)]

    def embed(values):
        values = discriminator.net(values)
        return values / values.norm(dim=1, keepdim=True)

    anchors, keys = embed(torch.cat([part, held[:, 0]])), embed(torch.cat([whole, held[:, 1]]))
    each = [-(one @ keys.T / 0.2).log_softmax(0)[row] for row, one in enumerate(anchors)]
    expected = sum(each[:4]) / 4 + (sum(each[4:]) / len(each[4:]) if len(each) > 4 else 0)
    found = discriminator.loss(part, whole, rng())
    close(found, expected)
    found.backward()
    assert part.grad.abs().max() > 0 and whole.grad is None  # keys are looked up, not moved


def test_as_many_earlier_images_as_it_says(teacher, monkeypatch):
    method, numbers = build("cmi", teacher, n=16, bank=5), []
    method.discriminator.written = 12
    plain = instance_discriminator.image_losses.contrastive

    def contrastive(anchors, keys, number, tau):
        numbers.append((len(anchors), len(keys), number))
        return plain(anchors, keys, number, tau)

    monkeypatch.setattr(instance_discriminator.image_losses, "contrastive", contrastive)
    method.discriminator.loss(*torch.rand(2, 4, method.discriminator.width), rng())
    assert numbers == [(9, 9, 4)]


ALONE = {**alone("cmi", "contrastive"), "onehot": 1e-9}  # a sum of no losses at all is refused


def told_apart(discriminator, teacher, images):
    """Of how many images the whole is nearest to its own part."""
    with torch.no_grad():
        parts = discriminator.embed(discriminator.features(resized_crop(images, rng(5))))
        wholes = discriminator.embed(discriminator.features(images))
        return F.cross_entropy(parts @ wholes.T / 0.1, torch.arange(len(images))).item()


def test_the_head_learns_in_each_round(teacher):
    method = build("cmi", teacher, **{**ALONE, "contrastive": 1.0}, warmup=3)
    for index in range(2):
        before = [one.detach().clone() for one in method.discriminator.net.parameters()]
        method.round(index)
        assert not any(torch.equal(one, other) for one, other in zip(method.discriminator.net.parameters(), before))


def test_without_the_loss_there_is_no_head_nor_a_teacher_that_it_does_not_suit():
    """A teacher without feature maps has nothing to tell images apart by."""
    flat = wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(UserError, match="no feature maps"):
        build("cmi", flat, bn=0.0)
    method = build("cmi", flat, bn=0.0, contrastive=0.0, n=16, batch=8, rounds=2, warmup=1)
    for index in range(2):
        method.round(index)
    assert set(method.parts) == {"objective", "pool", "student"} and len(method.pool) == 16


def test_the_steps_of_the_head_tell_images_apart(teacher):
    discriminator, images = build("cmi", teacher, lr_g=0.01).discriminator, torch.rand(16, 1, 8, 8, generator=rng(3))
    part, whole = discriminator.features(resized_crop(images, rng(4))), discriminator.features(images)
    lost = []
    for step in range(20):
        loss = discriminator.loss(part, whole, rng())
        loss.backward()
        discriminator.step(step)
        lost.append(loss.item())
    assert lost[-1] < 0.85 * lost[0]


def test_the_gradients_of_the_head_do_not_pile_up(teacher):
    discriminator = build("cmi", teacher).discriminator
    discriminator.loss(*torch.rand(2, 4, discriminator.width), rng()).backward()
    before = [one.detach().clone() for one in discriminator.net.parameters()]
    discriminator.step(0)
    assert all(one.grad is None or not one.grad.any() for one in discriminator.net.parameters())
    assert not any(torch.equal(one, other) for one, other in zip(discriminator.net.parameters(), before))


def test_the_contrastive_loss_of_the_images_of_a_round_goes_down(teacher, monkeypatch):
    """Against the same loss with its sign turned: images are moved so that they are told apart."""
    lost = []
    for sign in (1.0, -1.0):
        method = build("cmi", teacher, **ALONE, steps=12, lr_g=0.03, lr_z=0.1, warmup=3)
        method.config.contrastive *= sign
        head = method.discriminator
        monkeypatch.setattr(head.optimizer, "step", lambda: None)  # a head that stands still
        method.round(0)
        lost.append(told_apart(head, teacher, method.pool.read(torch.arange(8))))
    assert lost[0] < lost[1] - 0.05


def test_a_generator_starts_as_dcgan_does(teacher, monkeypatch):
    starts, refine = [], cmi.refine

    def spied(generator, *arguments, **how):
        starts.append({key: value.detach().clone() for key, value in generator.named_parameters()})
        return refine(generator, *arguments, **how)

    monkeypatch.setattr(cmi, "refine", spied)
    build("cmi", teacher, latent=32, width=16, warmup=3, steps=1).round(0)
    weights = {key: value for key, value in starts[0].items() if value.ndim > 1}
    norms = {key: value for key, value in starts[0].items() if value.ndim == 1 and "weight" in key}
    assert weights and norms
    assert all(0.014 < one.std() < 0.026 and one.mean().abs() < 0.01 for one in weights.values())
    assert all((one - 1).abs().max() < 0.1 and one.std() > 0 for one in norms.values())
    assert not any(value.any() for key, value in starts[0].items() if "bias" in key)


def test_a_part_is_a_quarter_to_all_of_an_image_inside_it_and_mirrored_half_of_the_time():
    line = torch.arange(32) / 31
    places = torch.stack([line.view(-1, 1).expand(32, 32), line.expand(32, 32)]).expand(500, 2, 32, 32)
    part = resized_crop(places, rng())
    steps = part[:, 1, 0].diff(dim=1)
    assert (steps.abs().min(1).values[(part[:, 1, 0].amin(1) > 0.02) & (part[:, 1, 0].amax(1) < 0.98)] > 0).all()
    mirrored = steps.mean(1) < 0
    assert 0.4 < mirrored.float().mean() < 0.6
    rows, columns = (part[:, axis].amax((1, 2)) - part[:, axis].amin((1, 2)) for axis in (0, 1))
    share = rows * columns
    assert share.min() > 0.2 and share.max() > 0.9 and 0.5 < share.mean() < 0.7
    middle = part[:, :, 15:17, 15:17].mean((2, 3))
    assert middle.std(0).min() > 0.05 and (middle - 0.5).abs().max() < 0.32  # somewhere, and never beyond an edge
    oblong = (rows / columns).log()[share < 0.6]
    assert oblong.abs().max() < math.log(4 / 3) + 0.08 and oblong.abs().max() > 0.15


def test_the_head_compares_a_part_of_each_image_with_the_whole(teacher, monkeypatch):
    method, seen = build("cmi", teacher, warmup=3, steps=2), []
    loss = method.discriminator.loss
    monkeypatch.setattr(
        method.discriminator, "loss", lambda part, whole, rng: seen.append((part, whole)) or loss(part, whole, rng)
    )
    method.round(0)
    assert len(seen) == 2 and all(
        part.shape == whole.shape and not torch.allclose(part, whole, atol=0.01) for part, whole in seen
    )
    assert all(part.requires_grad for part, _ in seen)


def test_the_first_step_of_the_head_is_of_the_rate_that_it_says(teacher):
    discriminator = build("cmi", teacher, lr_g=0.02).discriminator
    discriminator.loss(*torch.rand(2, 4, discriminator.width), rng()).backward()
    before = [weights.detach().clone() for weights in discriminator.net.parameters()]
    discriminator.step(0)
    moved = torch.cat([(after - start).abs().flatten() for after, start in zip(discriminator.net.parameters(), before)])
    assert moved.max().item() == pytest.approx(0.02, rel=1e-3)


def test_the_losses_see_a_view_that_is_new_in_each_step(teacher, monkeypatch):
    method, seen = build("cmi", teacher, warmup=3, steps=2, lr_g=1e-9, lr_z=1e-9, view="flip-crop"), []
    forward = method.objective.forward
    monkeypatch.setattr(method.objective, "forward", lambda images, *rest: seen.append(images.detach()) or forward(images, *rest))
    method.round(0)
    assert len(seen) == 2 and not torch.allclose(*seen, atol=0.01)


def test_the_seed_decides_the_head(teacher):
    weights = [build("cmi", teacher, seed=seed).discriminator.net[0].weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
