"""Channel exchange: what pairs exchange, that the generator's images are otherwise its own, and whose latent vectors are kept."""

import pytest
import torch
from small_method import build, rng
from small_net import classifier, close

from dfkd_steps.methods.engines import channel_exchange

METHODS = ("fast", "ssd-kd")


@pytest.fixture(scope="module")
def teacher():
    return classifier(seed=1)


def test_each_map_keeps_a_random_half_of_its_channels_and_takes_the_others_of_its_partner():
    maps = torch.rand(5, 8, 3, 3, generator=rng())
    mixed = channel_exchange.exchange_channels(maps, rng(1))
    own = (mixed == maps).flatten(2).all(2)
    partner = (mixed == maps.flip(0)).flatten(2).all(2)
    assert (own | partner).all() and own[[0, 1, 3, 4]].sum(1).tolist() == [4] * 4
    assert len({tuple(row) for row in own[[0, 1, 3, 4]].tolist()}) > 1 and torch.equal(mixed[2], maps[2])
    assert not torch.equal(mixed, channel_exchange.exchange_channels(maps, rng(2)))


def test_a_generator_in_two_parts_is_the_generator(teacher):
    generator = build("fast", teacher).inverter.generator.eval()
    latent, _ = generator.draw(6, rng())
    sizes = []
    for level in range(len(generator.stages) + 1):
        maps = generator.maps(latent, level)
        sizes.append(tuple(maps.shape[1:]))
        close(generator.from_maps(maps, level), generator(latent))
    assert sizes == [(4, 4, 4), (2, 8, 8)]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("share", [0.4, 1.0])
def test_the_student_sees_images_of_the_current_generator_mixed_in_a_share_of_its_steps(name, share, teacher, monkeypatch):
    method, seen = build(name, teacher, exchange=share, warmup=0), []
    method.round(0)
    step, exchanged = method.student.step, method.exchanged
    monkeypatch.setattr(method.student, "step", lambda images, *given: seen.append(images) or step(images, *given))
    generator, rows, same = method.inverter.generator, torch.arange(8), 0
    before = [one.clone() for one in generator.state_dict().values()]
    for seed in range(20):
        images = exchanged.images(rows, rng(seed))
        own = generator.eval()(exchanged.latents[rows]).detach()
        generator.train()
        assert images.shape == own.shape and not images.requires_grad
        same += torch.allclose(images, own, atol=1e-5)
    assert same == 0 if share == 1 else 6 <= same <= 18
    assert all(torch.equal(one, now) for one, now in zip(before, generator.state_dict().values())) and generator.training
    monkeypatch.setattr(exchanged, "images", lambda rows, rng: torch.full((len(rows), 1, 8, 8), 0.25))
    method.round(1)
    assert len(seen) == method.config.steps_s and all((one == 0.25).all() for one in seen)


def test_channels_are_exchanged_at_each_level_of_the_generator(teacher, monkeypatch):
    method, levels = build("fast", teacher, exchange=1.0), []
    generator, maps = method.inverter.generator, method.inverter.generator.maps
    monkeypatch.setattr(generator, "maps", lambda latents, level: levels.append(level) or maps(latents, level))
    for seed in range(30):
        method.exchanged.images(torch.arange(4), rng(seed))
    assert set(levels) == set(range(len(generator.stages) + 1)) == {0, 1}


@pytest.mark.parametrize("name", METHODS)
def test_the_generator_that_regenerates_has_the_statistics_of_its_own_maps(name, teacher):
    """Also in the round in which its first layers are drawn anew, whose running statistics are those of the layers before."""
    method, contrasts = build(name, teacher, exchange=0.001, warmup=0, rounds=5, reset=0.6, steps=2), []
    for index in range(4):  # the reset is in the third
        method.round(index)
        generator, latents = method.inverter.generator, method.exchanged.latents[: len(method.pool)]
        with torch.no_grad():
            contrasts.append(float(generator.eval()(latents).std() / generator.train()(latents).std()))
        assert {layer.momentum for layer in generator.modules() if hasattr(layer, "momentum")} == {0.1}
    assert contrasts == pytest.approx([1.0] * 4, abs=0.1)


def test_the_statistics_are_of_four_batches_spread_over_what_is_in_the_pool(teacher):
    """Of 96 places 80 are filled; latent vectors are the numbers of their places."""
    method, seen = build("fast", teacher, exchange=1.0, n=96), []
    method.exchanged.latents = torch.arange(96.0)[:, None].expand(96, method.config.latent)
    method.inverter.generator.register_forward_pre_hook(lambda _, given: seen.append(given[0][:, 0]))
    method.exchanged.take_statistics(80)
    assert [len(latents) for latents in seen] == [method.config.batch] * channel_exchange.BATCHES == [8] * 4
    assert torch.cat(seen).tolist() == [80 * place // 32 for place in range(32)]


@pytest.mark.parametrize("name", METHODS)
def test_the_latent_vectors_are_those_of_the_images_in_the_pool(name, teacher, monkeypatch):
    """Images made without a step are those of the copied generator: their latent vectors give them again."""
    method, made = build(name, teacher, exchange=1.0, steps=1, rounds=6), {}
    invert = method.inverter.invert

    def spy(*given):
        images = invert(*given)
        stored = (images * 255).round().to(torch.uint8)
        made.update({one.numpy().tobytes(): latent.clone() for one, latent in zip(stored, method.inverter.latent)})
        return images

    monkeypatch.setattr(method.inverter, "invert", spy)
    for index in range(5):
        method.round(index)
    for row in range(len(method.pool)):
        assert torch.equal(method.exchanged.latents[row], made[method.pool.images[row].numpy().tobytes()])


def test_kept_views_and_exchanged_images_do_not_go_together(teacher):
    config = build("fast", teacher).config
    config.exchange, config.views_kept = 0.7, 2
    assert "set exchange: 0, or views_kept: 0" in config.check()
    config.views_kept = 0
    assert config.check() is None


def test_its_state(teacher):
    method, other = (build("fast", teacher, exchange=0.5, warmup=0) for _ in range(2))
    method.round(0)
    other.restore(method.state())
    assert method.exchanged.latents.any() and torch.equal(method.exchanged.latents, other.exchanged.latents)
