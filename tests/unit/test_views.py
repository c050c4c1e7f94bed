"""The named augmentations, each by what it does to images that show it."""

import pytest
import torch

from dfkd_steps.training import views

SIDE, NUMBER = 16, 400


def seen(name, images):
    return views.view(name, images, torch.Generator().manual_seed(0))


def point(row, column):
    """Images with one bright pixel."""
    images = torch.zeros(NUMBER, 1, SIDE, SIDE)
    images[:, 0, row, column] = 1
    return images


def places(images):
    """Where images are brightest, if anywhere: a set of (row, column), with how often."""
    flat = images.amax(1).flatten(1)
    found = flat.argmax(1)[flat.amax(1) > 0.5]
    counts = found.bincount(minlength=SIDE * SIDE).view(SIDE, SIDE)
    return {(row, column): int(counts[row, column]) for row, column in counts.nonzero().tolist()}


def test_shift_moves_by_up_to_an_eighth_each_way():
    assert {*places(seen("shift", point(5, 4)))} == {(row, column) for row in range(3, 8) for column in range(2, 7)}


def test_flip_crop_moves_and_mirrors_left_to_right():
    found = places(seen("flip-crop", point(5, 4)))
    whole = {(row, column) for row in range(3, 8) for column in (*range(2, 7), *range(9, 14))}
    assert {*found} <= whole and len(found) > 0.95 * len(whole)
    mirrored = sum(times for (_, column), times in found.items() if column > 7)
    assert 0.4 < mirrored / NUMBER < 0.6


def angles(images):
    """How far the long axis of what is bright is turned from upright, degrees."""
    mass = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True)
    line = torch.arange(SIDE, dtype=torch.float32)
    rows, columns = (mass.sum(2) * line).sum(1), (mass.sum(1) * line).sum(1)
    down, right = line[None, :, None] - rows[:, None, None], line[None, None, :] - columns[:, None, None]
    moments = [(mass * one).sum((1, 2)) for one in (down * down, right * right, down * right)]
    return torch.rad2deg(0.5 * torch.atan2(2 * moments[2], moments[0] - moments[1])).abs()


def test_mild_turns_a_little_and_adds_noise_to_half():
    bar = torch.zeros(NUMBER, 1, SIDE, SIDE)
    bar[:, :, 4:12, 7:9] = 1
    turned = angles(seen("mild", bar).masked_fill(seen("mild", bar) < 0.3, 0))
    assert turned.max() < 25 and (turned > 8).float().mean() > 0.2
    grey = seen("mild", torch.full((NUMBER, 1, SIDE, SIDE), 0.5))[:, 0, 6:10, 6:10].flatten(1).std(1)
    assert 0.4 < (grey > 0.02).float().mean() < 0.6 and 0.035 < grey[grey > 0.02].mean() < 0.065


def test_zskd_mirrors_both_ways_and_sprinkles_salt_and_pepper():
    found = places(seen("zskd", point(5, 4)))
    for place in ((5, 4), (5, 11), (10, 4), (10, 11)):  # half of the images are turned, moved and smaller too
        assert found[place] > 0.05 * NUMBER, place
    grey = seen("zskd", torch.full((NUMBER, 1, SIDE, SIDE), 0.5))
    assert 0.008 < (grey == 1).float().mean() < 0.018  # half of a twentieth of the pixels of half of the images
    inside = grey[:, 0, 6:10, 6:10].flatten(1)
    assert 0.3 < ((inside - 0.5).abs() > 0.01).float().mean() < 0.7


def test_strong_masks_half_of_the_images_but_for_a_window():
    white = torch.ones(NUMBER, 1, SIDE, SIDE)
    black = [(seen(name, white) < 0.3).flatten(1).float().mean(1) for name in ("zskd", "strong")]
    assert black[1].mean() > black[0].mean() + 0.15


def test_shapes_makes_most_of_half_of_the_images_black_or_white():
    grey = 0.4 + 0.2 * torch.rand(NUMBER, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    found = seen("shapes", grey)
    assert (found > 0.85).float().mean() > 0.03


@pytest.mark.parametrize("name", ["shift", "flip-crop"])
def test_shifts_reach_an_eighth_of_each_side(name):
    """Of images that are wider than high: two rows and eight columns come in black at most."""
    seen = views.view(name, torch.ones(NUMBER, 1, 16, 64), torch.Generator().manual_seed(0))[:, 0] == 0
    rows, columns = seen.all(2).sum(1), seen.all(1).sum(1)
    assert set(rows.tolist()) == {0, 1, 2} and set(columns.tolist()) == set(range(9))


def windows(name, seed=0):
    """Of images whose colours are their coordinates, what a view cuts out: area, height, width (< 0 where mirrored) (N)."""
    across = torch.linspace(0, 1, 28).expand(28, 28)
    images = torch.stack([across, across.T])[None].expand(NUMBER, 2, 28, 28)
    found = views.view(name, images, torch.Generator().manual_seed(seed))
    width, height = found[:, 0, 0, -1] - found[:, 0, 0, 0], found[:, 1, -1, 0] - found[:, 1, 0, 0]
    return width.abs() * height, height, width, found


def test_resized_crop_shows_a_part_of_each_image():
    area, height, width, found = windows("resized-crop")
    assert found.shape == (NUMBER, 2, 28, 28) and height.min() > 0 and 0.4 < (width < 0).float().mean() < 0.6
    assert 0.05 < area.min() < 0.12 and 0.9 < area.max() <= 1 and 0.45 < area.mean() < 0.6
    assert len(height.unique()) > 0.9 * NUMBER


def seam(steps) -> int:
    """How far a line of coordinates was rolled, by where its ends meet: one step (of ``steps`` from pixel to pixel) is large."""
    found = (steps.abs() > 5 * steps.abs().median()).nonzero().flatten().tolist()
    assert len(found) <= 1
    return found[0] + 1 if found else 0


def test_sre2l_shows_one_part_of_all_images_and_rolls_it():
    """By up to a seventh of the width, downwards and to the right alone."""
    rolled, mirrored, areas = set(), set(), []
    for seed in range(60):
        *_, found = windows("sre2l", seed)
        assert torch.equal(found, found[:1].expand_as(found))
        down, right = found[0, 1, :, 0], found[0, 0, 0]
        mirrored.add(bool(right.diff().median() < 0))
        areas.append((down.max() - down.min()) * (right.max() - right.min()))
        rolled |= {("down", seam(down.diff())), ("right", seam(right.diff()))}
    assert mirrored == {False, True} and 0.05 < min(areas) < 0.2 and max(areas) > 0.85
    assert rolled == {(way, pixels) for way in ("down", "right") for pixels in range(5)}


PARTS = {
    "mild": [("affine", {"degrees": 15, "scale": (0.9, 1.1), "move": 0.08}), ("noise", {"std": 0.05})],
    "zskd": [
        ("affine", {"degrees": 90, "scale": (0.6, 0.9), "move": 0.2, "share": 0.5}), ("flip", {}), ("flip", {}),
        ("salt_and_pepper", {"density": 0.05}), ("noise", {"std": 0.1}),
    ],
    "shapes": [
        ("mixup", {"share": 0.5}), ("affine", {"degrees": 30, "scale": (0.6, 1.1), "move": 0.15}),
        ("salt_and_pepper", {"density": 0.05}), ("noise", {"std": 0.1}), ("random_threshold", {}),
        ("random_window_mask", {"least": 0.25}),
    ],
}  # fmt: skip
PARTS["strong"] = [*PARTS["zskd"], ("random_window_mask", {"least": 0.25})]


@pytest.mark.parametrize("name", PARTS)
def test_what_a_view_is_composed_of(name, monkeypatch):
    calls = []

    def watch(part):
        plain = getattr(views, part)
        monkeypatch.setattr(views, part, lambda *given, **how: calls.append((part, how)) or plain(*given, **how))

    for part in {part for parts in PARTS.values() for part, _ in parts}:
        watch(part)
    seen(name, torch.rand(4, 1, SIDE, SIDE))
    assert calls == PARTS[name]
