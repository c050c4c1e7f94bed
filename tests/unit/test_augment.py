"""Augmentations against slow, plain versions of themselves."""

import pytest
import torch

from dfkd_steps.training import augment, views


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(40, 3, 12, 10, generator=rng(9))


def test_shift_moves_whole_images(images):
    moved = augment.shift(images, (3, 2), rng())
    padded = torch.nn.functional.pad(images, (2, 2, 3, 3))
    found = set()
    for before, after in zip(padded, moved):
        fits = [(y, x) for y in range(7) for x in range(5) if torch.equal(before[:, y : y + 12, x : x + 10], after)]
        assert len(fits) == 1
        found.add(fits[0])
    assert len(found) > 15  # each image has an offset of its own


def test_shift_by_nothing_and_of_uint8(images):
    assert augment.shift(images, (0, 0), rng()) is images
    assert augment.shift((images * 255).byte(), (2, 2), rng()).dtype == torch.uint8


@pytest.mark.parametrize(("name", "most"), [("roll", (2, 2)), ("roll-flip", (3, 1))])
def test_rolls_move_all_images_alike_and_lose_nothing(name, most):
    """By up to two pixels, or an eighth of the side; what leaves on one side comes in on the other."""
    images, places, mirrored = torch.rand(4, 3, 24, 10, generator=rng(9)), set(), 0
    down_by, right_by = (range(-side, side + 1) for side in most)
    for seed in range(200):
        seen = views.view(name, images, rng(seed))
        found = [
            (down, right, flipped)
            for down in down_by for right in right_by for flipped in (False, True)
            if torch.equal(seen, rolled(images, down, right, flipped))
        ]  # fmt: skip
        assert len(found) == 1, seed
        places.add(found[0][:2])
        mirrored += found[0][2]
    assert len(places) == len(down_by) * len(right_by)
    assert mirrored == 0 if name == "roll" else 70 < mirrored < 130


@pytest.mark.parametrize(("side", "most"), [(224, 30), (112, 15), (75, 10)])
def test_the_jitter_of_deepinversions_imagenet_script(side, most, monkeypatch):
    """Up to 30 of 224 pixels, and half of that at half the resolution; the images of half the draws are mirrored."""
    image, seen, roll = torch.arange(2.0 * side).view(1, 1, 2, side), [], views.roll

    def spied(images, rng, far):
        seen.append(roll(images, rng, far))
        return seen[-1]

    monkeypatch.setattr(views, "roll", spied)
    found = [views.view("jitter", image, rng(seed)) for seed in range(400)]
    moved = {round(rolled[0, 0, 0, 0].item()) % side for rolled in seen}
    assert moved == {number % side for number in range(-most, most + 1)}
    assert 150 < sum(torch.equal(one, rolled.flip(3)) for one, rolled in zip(found, seen)) < 250


def rolled(images, down, right, flipped):
    images = images.roll((down, right), (2, 3))
    return images.flip(3) if flipped else images


def test_flip_mirrors_about_half(images):
    flipped = augment.flip(images, rng())
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, images)]
    same = [torch.equal(a, b) for a, b in zip(flipped, images)]
    assert all(a != b for a, b in zip(mirrored, same)) and 8 < sum(mirrored) < 32


def test_cutout_blanks_one_square(images):
    cut = augment.cutout(images + 1, 4, rng())
    blank = (cut == 0).all(1)
    assert ((cut == 0).any(1) == blank).all()  # all channels alike
    assert torch.equal(cut[~blank[:, None].expand_as(cut)], (images + 1)[~blank[:, None].expand_as(cut)])
    sizes = blank.sum((1, 2))
    assert sizes.max() <= 16 and sizes.min() >= 4


def test_affine_of_nothing_is_the_image(images):
    same = augment.affine(images, rng(), degrees=0, scale=(1, 1), move=0)
    assert torch.allclose(same, images, atol=1e-5)
    left_alone = augment.affine(images, rng(), degrees=90, scale=(0.6, 0.9), move=0.2, share=0.0)
    assert torch.allclose(left_alone, images, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 128), (128, 32), (64, 64)])
def test_affine_turns_a_line_by_its_angle_whatever_the_shape_of_the_image(size):
    """A bar across, turned by 30 degrees: the direction in which its pixels spread most."""
    images = torch.zeros(1, 1, *size)
    images[:, :, size[0] // 2 - 1 : size[0] // 2 + 1, size[1] // 2 - 12 : size[1] // 2 + 12] = 1
    degrees = []
    for seed in range(20):  # of angles that are drawn from -30 to 30
        turned = augment.affine(images, rng(seed), degrees=30, scale=(1, 1), move=0)[0, 0]
        place = (turned > 0.5).nonzero().float()
        across, down = torch.linalg.eigh(torch.cov(place.T)).eigenvectors[:, 1].flip(0)
        degrees.append(float(torch.rad2deg(torch.atan(down / across))))
        drawn = 30 * (2 * torch.rand(1, generator=rng(seed)).item() - 1)
        assert abs(abs(degrees[-1]) - abs(drawn)) < 4, (degrees[-1], drawn)
    assert max(degrees) > 15 and min(degrees) < -15


def test_affine_scales_down():
    white = torch.ones(50, 1, 20, 20)
    small = augment.affine(white, rng(), degrees=0, scale=(0.5, 0.5), move=0)
    assert small.mean().item() == pytest.approx(0.25, abs=0.02)


def test_noises_touch_their_share(images):
    noisy = augment.noise(images, rng(), std=0.1)
    changed = (noisy != images).flatten(1).any(1).sum()
    assert 8 < changed < 32 and noisy.min() >= 0 and noisy.max() <= 1
    peppered = augment.salt_and_pepper(images, rng(), density=0.2)
    touched = peppered != images
    assert ((peppered == 0) | (peppered == 1))[touched].all()
    assert 0.02 < touched.float().mean() < 0.2


def test_window_keeps_one_rectangle():
    kept = augment.random_window_mask(torch.ones(200, 2, 16, 12), rng(), least=0.25)
    whole = kept.flatten(1).all(1)
    assert 60 < whole.sum() < 140
    for image in kept[~whole]:
        rows, columns = image[0].any(1), image[0].any(0)
        assert torch.equal(image[0], image[1]) and torch.equal(image[0].bool(), rows[:, None] & columns[None])
        for line in (rows, columns):  # in one piece
            assert (line[1:] != line[:-1]).sum() <= 2


@pytest.mark.parametrize("name", views.VIEWS)
def test_views_stay_in_range_and_repeat(name, images):
    one, two = views.view(name, images, rng(1)), views.view(name, images, rng(1))
    assert torch.equal(one, two) and one.shape == images.shape and one.min() >= 0 and one.max() <= 1
    if name != "none":
        assert not torch.equal(one, images) and not torch.equal(one, views.view(name, images, rng(2)))


def marked(number, side):
    """Image i is 1 in its own channel i and 0 elsewhere, so that mixtures tell what they are of."""
    return torch.eye(number)[:, :, None, None].expand(-1, -1, side, side).contiguous()


def partners(mixed):
    """For each mixture of marked images the channel, other than its own, that it has most of."""
    return mixed.mean((2, 3)).masked_fill(torch.eye(len(mixed), dtype=torch.bool), -1).argmax(1)


def test_mixup_adds_pairs_in_shares():
    mixed = augment.mixup(marked(60, 2), rng())
    share = mixed[:, :, 0, 0]
    assert torch.equal(mixed, share[:, :, None, None].expand_as(mixed))  # all pixels alike
    assert torch.allclose(share.sum(1), torch.ones(60)) and share.min() >= 0 and ((share > 0).sum(1) <= 2).all()
    own = share.diag()
    assert 0.4 < own.mean() < 0.6 and own.min() < 0.15 and own[own < 1].max() > 0.85  # uniform
    paired = own < 1
    assert paired.sum() > 50 and len(partners(mixed)[paired].unique()) == paired.sum()  # each is partner once


def test_mixup_leaves_the_other_images_alone():
    images = marked(400, 2)
    same = (augment.mixup(images, rng(), share=0.25) == images).flatten(1).all(1)
    assert 0.7 < same.float().mean() < 0.8
    assert torch.equal(augment.mixup(images, rng(), share=0.0), images)


def test_cutmix_puts_in_one_rectangle_of_another():
    number, side = 200, 16
    mixed = augment.cutmix(marked(number, side), rng())
    assert ((mixed == 0) | (mixed == 1)).all() and (mixed.sum(1) == 1).all()  # each pixel is of one image
    other = 1 - mixed[torch.arange(number), torch.arange(number)]
    for image, mask, partner in zip(mixed, other, partners(mixed)):
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask.bool(), rows[:, None] & columns[None]) and torch.equal(image[partner], mask)
        for line in (rows, columns):
            assert (line[1:] != line[:-1]).sum() <= 2
    area = other.mean((1, 2))
    # Sides of sqrt(u), cut off at the edges: (e - e^2/4)^2 of the area for e = sqrt(u), 0.32 in the mean.
    assert 0.26 < area.mean() < 0.38 and area.min() < 0.05 and area.max() > 0.6


@pytest.mark.parametrize("name", views.MIXES)
def test_mixes_repeat_and_leave_their_input(name, images):
    before = images.clone()
    one, two, other = (views.mix(name, images, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and torch.equal(images, before) and one.min() >= 0 and one.max() <= 1
    assert torch.equal(one, other) == torch.equal(one, images) == (name == "none")
    assert torch.allclose(views.mix(name, images[:1], rng()), images[:1])  # alone, it is its own partner


def test_blur_smooths_a_third_once_and_a_third_twice():
    point = torch.zeros(300, 2, 7, 7)
    point[:, :, 3, 3] = 1
    centre = augment.blur(point, rng())[:, :, 3, 3]
    assert torch.equal(centre[:, 0], centre[:, 1])
    found, counts = centre[:, 0].unique(return_counts=True)
    assert found.tolist() == [(6 / 16) ** 2, 1 / 4, 1] and counts.min() > 70


def test_contrast_makes_blobs_of_its_share(images):
    made = augment.random_threshold(images, rng(), share=0.5)
    changed = (made != images).flatten(1).any(1)
    assert 10 < changed.sum() < 30
    low, high = (extreme(made[changed].flatten(1), 1).values for extreme in (torch.min, torch.max))
    assert (low == 0).all() and (high > 0.99).all() and (high <= 1).all()
    every = augment.random_threshold(images, rng(), share=1.0)
    assert (every < 0.1).float().mean() > 1.5 * (every > 0.9).float().mean()  # most of it goes dark


def test_contrast_of_one_colour_is_finite():
    assert torch.isfinite(augment.random_threshold(torch.full((9, 1, 8, 8), 0.7), rng(), share=1.0)).all()


def test_affine_turns_and_does_not_shear():
    """A small square keeps its area and its distance from the middle."""
    square = torch.zeros(200, 1, 20, 20)
    square[:, :, 4:8, 8:12] = 1
    turned = augment.affine(square, rng(), degrees=90, scale=(1, 1), move=0)
    assert (turned.sum((1, 2, 3)) / 16 - 1).abs().max() < 0.1
    line = torch.arange(20) - 9.5
    rows, columns = ((turned * one).sum((1, 2, 3)) / turned.sum((1, 2, 3)) for one in (line.view(-1, 1), line))
    assert (torch.hypot(rows, columns) - 4).abs().max() < 0.3 and rows.std() > 1 and columns.std() > 1


def test_noises_differ_between_images_and_pepper_is_of_all_channels():
    grey = torch.full((40, 3, 12, 10), 0.5)
    peppered = augment.salt_and_pepper(grey, rng(), density=0.2)
    assert torch.equal(peppered, peppered[:, :1].expand_as(peppered))
    noisy = augment.noise(grey, rng(), std=0.1, share=1.0)
    assert len(noisy.flatten(1).unique(dim=0)) == len(noisy) and not torch.equal(noisy[:, 0], noisy[:, 1])


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_cutout_blanks_a_square_of_its_side(side):
    """Less of it where the centre is near an edge."""
    blank = augment.cutout(torch.ones(500, 1, 12, 16), side, rng()) == 0
    assert blank.sum((1, 2, 3)).max() == side * side
    assert blank.any(3).sum(2).max() == side and blank.any(2).sum(2).max() == side


@pytest.mark.parametrize("size", [(6, 12), (12, 6)])
def test_cutout_reaches_all_of_an_image(size):
    blank = augment.cutout(torch.ones(2000, 1, *size), 1, rng()) == 0
    assert blank.any(0).all() and (blank.flatten(1).sum(1) == 1).all()


def test_affine_moves_by_a_share_of_each_side():
    """A bar across the middle tells how far down, and one upright how far to the right: a tenth of 20 and of 60 at most."""
    images = torch.zeros(400, 2, 20, 60)
    images[:, 0, 9:11] = 1
    images[:, 1, :, 29:31] = 1
    moved = augment.affine(images, rng(), degrees=0, scale=(1, 1), move=0.1)
    down, right = moved[:, 0].mean(2), moved[:, 1].mean(1)
    rows, columns = (
        (part * torch.arange(side)).sum(1) / part.sum(1) - (side - 1) / 2 for part, side in ((down, 20), (right, 60))
    )
    for offsets, most in ((rows, 2), (columns, 6)):
        assert 0.95 * most < offsets.max() < most + 0.01 and -most - 0.01 < offsets.min() < -0.95 * most
        assert abs(offsets.mean()) < 0.1 * most and offsets.std().item() == pytest.approx(most / 3**0.5, rel=0.1)


def test_a_window_has_sides_of_a_quarter_of_the_image_at_least():
    """Cut off at the edges of the image: e - e^2/4 of a side e of 1/4 to 1, 0.516 in the mean, and never less than an eighth."""
    masked = augment.random_window_mask(torch.ones(2000, 1, 40, 24), rng(), least=0.25, share=1.0)[:, 0]
    for axis in (1, 2):
        share = masked.any(axis).float().mean(1)
        assert share.mean().item() == pytest.approx(0.516, abs=0.02) and share.min() > 0.08


def test_the_form_of_a_part_is_as_often_high_as_wide():
    width, height, *_ = augment.draw_part(40_000, rng(), area=(0.1, 0.3)).T
    oblong = (width / height).log()
    most = torch.tensor(4 / 3).log().item()
    assert abs(oblong.mean()) < 0.005 and oblong.std().item() == pytest.approx(most / 3**0.5, rel=0.02)
    assert oblong.abs().max().item() == pytest.approx(most, rel=0.01)
    assert (width * height).mean().item() == pytest.approx(0.2, rel=0.01)


def test_blobs_are_of_any_steepness_at_thresholds_about_the_mean():
    """Of an even slope from dark to light, whose values are 1.73 deviations about their mean at most."""
    slope = torch.linspace(0, 1, 64).expand(400, 1, 64, 64)
    line = augment.random_threshold(slope, rng(), share=1.0)[:, 0, 32, 2:-2]
    scaled = ((torch.linspace(0, 1, 64) - 0.5) * 12**0.5)[2:-2]
    rise = line.diff(dim=1) / scaled.diff()
    threshold = scaled[rise.argmax(1)]
    assert -0.7 < threshold.min() < -0.3 and 1.3 < threshold.max() < 1.73
    assert threshold.mean().item() == pytest.approx(0.5, abs=0.15)
    assert 0.2 < rise.amax(1).min() < 0.6 and 3.5 < rise.amax(1).max() < 6  # of exp(1) and of exp(20) it is 1/4 and 5


def test_blobs_of_all_channels_have_one_threshold():
    """Of an image that is dark in its first channel and light in its second, the second stays the lighter one."""
    colours = torch.tensor([0.2, 0.8]).view(1, 2, 1, 1).expand(100, 2, 16, 16)
    blobs = augment.random_threshold(colours, rng(), share=1.0)[:, :, 8, 8]
    assert (blobs[:, 1] - blobs[:, 0]).min() > 0.4
