"""Augmentations against slow, plain versions of themselves."""

import pytest
import torch

from dfkd_steps import augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(40, 3, 12, 10, generator=generator(9))


def test_shift_moves_whole_images(images):
    moved = augment.shift(images, 3, generator())
    padded = torch.nn.functional.pad(images, (3, 3, 3, 3))
    found = set()
    for before, after in zip(padded, moved):
        fits = [(y, x) for y in range(7) for x in range(7) if torch.equal(before[:, y : y + 12, x : x + 10], after)]
        assert len(fits) == 1
        found.add(fits[0])
    assert len(found) > 15  # each image has an offset of its own


def test_shift_by_nothing_and_of_uint8(images):
    assert augment.shift(images, 0, generator()) is images
    assert augment.shift((images * 255).byte(), 2, generator()).dtype == torch.uint8


def test_flip_mirrors_about_half(images):
    flipped = augment.flip(images, generator())
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, images)]
    same = [torch.equal(a, b) for a, b in zip(flipped, images)]
    assert all(a != b for a, b in zip(mirrored, same)) and 8 < sum(mirrored) < 32


def test_cutout_blanks_one_square(images):
    cut = augment.cutout(images + 1, 4, generator())
    blank = (cut == 0).all(1)
    assert ((cut == 0).any(1) == blank).all()  # all channels alike
    assert torch.equal(cut[~blank[:, None].expand_as(cut)], (images + 1)[~blank[:, None].expand_as(cut)])
    sizes = blank.sum((1, 2))
    assert sizes.max() <= 16 and sizes.min() >= 4


def test_affine_of_nothing_is_the_image(images):
    same = augment.affine(images, generator(), degrees=0, scale=(1, 1), move=0)
    assert torch.allclose(same, images, atol=1e-5)
    left_alone = augment.affine(images, generator(), degrees=90, scale=(0.6, 0.9), move=0.2, share=0.0)
    assert torch.allclose(left_alone, images, atol=1e-5)


def test_affine_scales_down():
    white = torch.ones(50, 1, 20, 20)
    small = augment.affine(white, generator(), degrees=0, scale=(0.5, 0.5), move=0)
    assert small.mean().item() == pytest.approx(0.25, abs=0.02)


def test_noises_touch_their_share(images):
    noisy = augment.noise(images, generator(), std=0.1)
    changed = (noisy != images).flatten(1).any(1).sum()
    assert 8 < changed < 32 and noisy.min() >= 0 and noisy.max() <= 1
    peppered = augment.salt_and_pepper(images, generator(), density=0.2)
    touched = peppered != images
    assert ((peppered == 0) | (peppered == 1))[touched].all()
    assert 0.02 < touched.float().mean() < 0.2


def test_window_keeps_one_rectangle():
    kept = augment.window(torch.ones(200, 2, 16, 12), generator(), least=0.25)
    whole = kept.flatten(1).all(1)
    assert 60 < whole.sum() < 140
    for image in kept[~whole]:
        rows, columns = image[0].any(1), image[0].any(0)
        assert torch.equal(image[0], image[1]) and torch.equal(image[0].bool(), rows[:, None] & columns[None])
        for line in (rows, columns):  # in one piece
            assert (line[1:] != line[:-1]).sum() <= 2


@pytest.mark.parametrize("name", augment.VIEWS)
def test_views_stay_in_range_and_repeat(name, images):
    one, two = augment.view(name, images, generator(1)), augment.view(name, images, generator(1))
    assert torch.equal(one, two) and one.shape == images.shape and one.min() >= 0 and one.max() <= 1
    if name != "none":
        assert not torch.equal(one, images) and not torch.equal(one, augment.view(name, images, generator(2)))
