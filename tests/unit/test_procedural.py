"""Procedural images: what is drawn, at any size and with any number of channels."""

from types import SimpleNamespace

import pytest
import torch

from dfkd_steps.methods import procedural

SHAPES = [(1, 28, 28), (3, 32, 48)]


def drawn(kind, number=200, shape=SHAPES[0], seed=0):
    return procedural.KINDS[kind](number, SimpleNamespace(image_shape=shape), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", procedural.KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_images(kind, shape):
    images = drawn(kind, shape=shape)
    assert images.shape == (200, *shape) and images.dtype == torch.float32
    assert torch.isfinite(images).all() and images.min() >= 0 and images.max() <= 1
    assert torch.equal(images, drawn(kind, shape=shape))
    assert len(images.flatten(1).unique(dim=0)) == 200
    assert images.flatten(1).std(1).median() > 0.05


def test_no_object_is_blank_and_each_reaches_through_its_image():
    images = drawn("objects", 2000)
    there = images.amax(1) > 0.02
    assert there.any((1, 2)).all()
    height, width = there.any(2).sum(1), there.any(1).sum(1)
    longest = torch.maximum(height, width) / 28
    assert (longest > 0.55).float().mean() > 0.98 and longest.median() > 0.75
    assert (~there).flatten(1).float().mean(1).median() > 0.2  # the ground is black


def test_half_of_the_objects_are_symmetric_in_outline():
    there = drawn("objects", 1000).amax(1) > 0.02
    same = (there == there.flip(2)).float().mean((1, 2)) > 0.97
    assert 0.5 < same.float().mean() < 0.9
