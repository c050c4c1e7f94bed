"""Arbitrary transfer sets: each kind of image has its own statistics, shares of a mixture, rows of a data set."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_method import build, rng
from small_net import wrap
from torch import nn

from dfkd_steps.methods.engines.image_fit import fit
from dfkd_steps.procedural import registry

SHAPE = (1, 16, 16)


@pytest.fixture(scope="module")
def teacher():
    return wrap(nn.Identity(), SHAPE, mean=(0.6,), std=(0.1,))


def everything(method):
    return torch.cat([method.batch(index).images for index in range(method.count())])


def likeness(images, by=1):
    """The correlation of pixels with their right neighbours."""
    left, right = images[..., :-by].flatten(), images[..., by:].flatten()
    return torch.corrcoef(torch.stack([left, right]))[0, 1].item()


# What tells one kind of noise from another: mean, deviation, correlation of neighbours.
NOISE = {"uniform": (0.5, 12**-0.5, 0.0), "gaussian": (0.6, 0.1, 0.0)}


@pytest.mark.parametrize("kind", NOISE)
def test_white_noise_has_the_mean_and_deviation_of_its_kind(kind, teacher):
    images = everything(build("noise", teacher, n=300, batch=100, kind=kind))
    mean, std, correlation = NOISE[kind]
    assert images.mean().item() == pytest.approx(mean, abs=0.005)
    assert images.std().item() == pytest.approx(std, rel=0.02)
    assert likeness(images) == pytest.approx(correlation, abs=0.02)


def test_smooth_noise_is_smooth_and_stretched(teacher):
    images = everything(build("noise", teacher, n=300, batch=100, kind="smooth"))
    assert likeness(images) > 0.8 > likeness(images, 4)
    assert images.amin((1, 2, 3)).max() == 0 and images.amax((1, 2, 3)).min() > 0.999


def black(images):
    return (images == 0).float().mean().item()


def flat(images):
    """The share of pixels that equal their right neighbour, outside black."""
    left, right = images[..., :-1], images[..., 1:]
    return ((left == right) & (left > 0)).float().sum().item() / (left > 0).float().sum().item()


def greys(images):
    """How many different levels an image has, in the median."""
    return float(np.median([len(one.unique()) for one in images]))


# Kind: bounds of the share of black pixels, of the share of flat ones among the others, of the levels of an image.
DRAWN = {
    "leaves": ((0, 0.02), (0.3, 1), (2, 61)),
    "fractals": ((0.15, 0.95), (0, 0.2), (50, 120)),
    "strokes": ((0.3, 0.9), (0.1, 0.9), (20, 256)),
    "glyphs": ((0.3, 0.9), (0.05, 0.9), (20, 256)),
    "objects": ((0.2, 0.7), (0, 0.2), (60, 256)),
    "scenes": ((0, 0.1), (0, 0.2), (100, 256)),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_procedural_images_are_of_their_kind(kind, teacher):
    images = everything(build("procedural", teacher, n=200, batch=100, kind=kind))
    found = black(images), flat(images), greys(images)
    assert all(low <= one <= high for one, (low, high) in zip(found, DRAWN[kind])), found


@pytest.mark.parametrize("name", ["noise", "procedural"])
def test_every_kind_is_another(name, teacher):
    """By the function that its name stands for in the registry, from the same random numbers."""
    kinds = registry.NOISE if name == "noise" else registry.PROCEDURAL
    drawn = [registry.load(kind)(4, teacher.description, rng()) for kind in kinds]
    for place, kind in enumerate(kinds):
        method = build(name, teacher, n=4, batch=4, kind=kind)
        method.seed_of = lambda *parts: 0
        assert [torch.equal(method.batch(0).images, one) for one in drawn] == [one == place for one in range(len(kinds))]


def source(number=30, shape=SHAPE):
    """A data set of images of one level each, all different, and how often it was read."""
    levels = np.arange(number, dtype=np.uint8) * 7 + 1
    images, reads = np.broadcast_to(levels[:, None, None, None], (number, *shape)).copy(), []

    def read(split, rows):
        assert np.all(np.diff(rows) > 0)  # as files are read: each row once, in order
        reads.append((split, rows))
        return images[rows], None

    return SimpleNamespace(sizes={"train": number, "test": 5}, read=read, reads=reads, levels=levels)


def test_a_mixture_takes_its_parts_in_turn(teacher):
    data = source()
    method = build("mixture", teacher, [data], n=99, batch=40, kinds=["uniform", "leaves", "strokes"], source="some")
    images = everything(method)
    levels = (images * 255).round()
    of_source = (levels == levels[:, :, :1, :1]).flatten(1).all(1) & torch.isin(levels[:, 0, 0, 0], torch.tensor(data.levels))
    assert of_source.nonzero().flatten().tolist() == list(range(3, 99, 4))
    parts = [images[place::4] for place in range(3)]
    assert greys(parts[0]) > 200 and abs(likeness(parts[0])) < 0.05  # white noise
    assert flat(parts[1]) > 0.3 and black(parts[1]) < 0.02 and greys(parts[1]) < 61
    assert black(parts[2]) > 0.3 and likeness(parts[2]) > 0.4
    assert {split for split, _ in data.reads} == {"train"}


def test_a_mixture_asked_for_more_of_its_source_than_there_is_repeats_it(teacher):
    data = source(3)
    images = everything(build("mixture", teacher, [data], n=40, batch=20, kinds=[], source="some"))
    assert len(images) == 40 and {*(images[:, 0, 0, 0] * 255).round().int().tolist()} == {1, 8, 15}


def test_a_mixture_draws_of_its_source_as_often_as_chance_has_it(teacher):
    """Of 5,000 images 250 are drawn, 244 different ones in the mean."""
    data = source(5000)
    build("mixture", teacher, [data], n=250, batch=250, kinds=[], source="some").batch(0)
    assert 235 < len(data.reads[0][1]) <= 250 and len(data.reads) == 1
    images = everything(build("mixture", teacher, [many := source(200)], n=250, batch=250, kinds=[], source="some"))
    assert len({bytes((image * 255).byte().numpy()) for image in images}) == len(many.reads[0][1]) > 120


def test_a_mixture_of_a_kind_that_is_named_twice_has_no_image_twice(teacher):
    images = everything(build("mixture", teacher, n=24, batch=12, kinds=["strokes", "uniform", "strokes"]))
    assert len(images.flatten(1).unique(dim=0)) == 24
    plain = everything(build("mixture", teacher, n=24, batch=12, kinds=["strokes", "uniform", "leaves"]))
    assert torch.equal(images[::3], plain[::3]) and torch.equal(images[1::3], plain[1::3])


def test_a_mixture_without_a_source_is_of_its_kinds_alone(teacher):
    images = everything(build("mixture", teacher, n=30, batch=7, kinds=["uniform", "leaves"]))
    assert greys(images[::2]) > 200 > 61 > greys(images[1::2])


@pytest.mark.parametrize(("n", "expected"), [(0, 30), (12, 12)])
def test_a_data_set_is_given_row_by_row_each_once_in_random_order(n, expected, teacher):
    data = source()
    method = build("dataset", teacher, [data], n=n, batch=8, source="some")
    levels = (everything(method)[:, 0, 0, 0] * 255).round().int().tolist()
    assert len(levels) == len({*levels}) == expected and {*levels} <= {*data.levels.tolist()}
    assert levels[:8] != sorted(levels[:8]) and {split for split, _ in data.reads} == {"train"}
    other = build("dataset", teacher, [data], n=n, batch=8, source="some", seed=1)
    assert (everything(other)[:, 0, 0, 0] * 255).round().int().tolist() != levels


def test_colour_becomes_grey_by_luma_and_grey_colour_by_repetition():
    colour = torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    grey = fit(colour, (1, 4, 4))
    assert torch.allclose(grey, torch.tensor(0.299 + 0.587 / 2 + 0.114 / 4))
    assert torch.equal(fit(grey, (3, 4, 4)), grey.expand(2, 3, 4, 4))
    assert torch.equal(fit(colour, (3, 4, 4)), colour)


def test_images_are_resized_without_aliasing():
    stripes = torch.tensor([0.0, 1, 1, 0]).repeat(8).expand(1, 1, 32, 32)  # where a pixel is looked up they are 1
    wide = torch.linspace(0, 1, 60).expand(2, 1, 20, 60)
    assert torch.equal(fit(wide, (1, 20, 20)), wide[..., 20:40])  # the middle, of its form
    small = fit(stripes, (1, 8, 8))
    assert small.shape == (1, 1, 8, 8) and (small - 0.5).abs().max() < 0.1
    ramp = torch.linspace(0, 1, 8).expand(1, 1, 8, 8)
    large = fit(ramp, (1, 16, 16))
    assert large.shape == (1, 1, 16, 16) and (large.diff(dim=3) >= 0).all() and large.min() >= 0 and large.max() <= 1
