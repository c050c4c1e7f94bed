"""Crops of photographs: where they lie, how large, turned and sheared they are, which files they are of, what is refused."""

import math
import os

import numpy as np
import pytest
import torch
from PIL import Image
from small_method import build
from small_net import wrap
from torch import nn

from dfkd_steps.methods.single_image import image_paths
from dfkd_steps.runtime.errors import UserError

SIDE = 240
STILL = {"degrees": 0.0, "shear": 0.0, "jitter": 0.0}
WHOLE = {**STILL, "first_crop": 1.0, "area": 1.0}
VISIBLE = 1 / math.sqrt(2)  # of the sides of a crop, whose edges are left out


def teacher(shape=(3, 24, 24)):
    channels = shape[0]
    return wrap(nn.Identity(), shape, mean=(0.5,) * channels, std=(0.2,) * channels)


def places(height=SIDE, width=SIDE):
    """A photograph (H,W,3) whose red says how far down a pixel lies, whose green how far across; 0 to 250 of 255."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 250 / (height - 1), columns * 250 / (width - 1), np.full(rows.shape, 100)], 2).astype(np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


@pytest.fixture
def crops(tmp_path):
    """Crops (N,3,H,W) of a photograph (H,W,3) with the values of a config."""

    def made(pixels, shape=(3, 24, 24), n=200, **values):
        method = build("single-image", teacher(shape), images=save(tmp_path / "photo.png", pixels), n=n, batch=50, **values)
        return torch.cat([method.batch(index).images for index in range(method.count())])

    return made


def extent(images, channel):
    """How much of the photograph crops show along an axis, as a share of its side (N): from the middle of the first row or
    column to that of the last."""
    length = images.shape[2 + channel]
    values = images[:, channel].mean(2 - channel) * 255 / 250
    return (values[:, -1] - values[:, 0]) * length / (length - 1)


def slope(images, channel):
    """The direction in degrees in which a channel rises (N), 0 where it is down for red, and across for green."""
    inside = images[:, channel, 4:-4, 4:-4]
    down = (inside[:, 1:] - inside[:, :-1]).mean((1, 2))
    across = (inside[:, :, 1:] - inside[:, :, :-1]).mean((1, 2))
    return torch.rad2deg(torch.atan2(across, down) if channel == 0 else torch.atan2(down, across))


def test_all_of_a_photograph_but_its_edges_is_seen_where_crops_have_its_size(crops):
    images = crops(places(), n=50, **WHOLE)
    for channel in (0, 1):
        assert extent(images, channel) == pytest.approx([VISIBLE] * 50, abs=0.03)
        assert images[:, channel].mean((1, 2)) == pytest.approx([125 / 255] * 50, abs=0.02)  # int(24 * 1.41) is odd


def test_a_window_lies_anywhere(crops):
    images = crops(places(), **{**WHOLE, "first_crop": 0.5})
    for channel in (0, 1):
        assert extent(images, channel) == pytest.approx([VISIBLE / 2] * 200, abs=0.02)
        centre = images[:, channel].mean((1, 2)) * 255 / 250
        assert 0.22 < centre.min() < 0.28 and 0.72 < centre.max() < 0.78
        assert centre.mean() == pytest.approx(0.5, abs=0.03) and centre.std() == pytest.approx(0.5 / math.sqrt(12), abs=0.02)


def test_parts_of_a_window_are_uniform_in_their_area_and_of_nearly_its_form(crops):
    images = crops(places(), n=600, **{**WHOLE, "area": 0.002})
    down, across = extent(images, 0).clamp(min=1e-3) / VISIBLE, extent(images, 1).clamp(min=1e-3) / VISIBLE
    area = down * across
    # Uniform, but that large oblong ones do not fit: fewer than a tenth are above 0.9.
    assert (area < 0.25).float().mean() == pytest.approx(0.29, abs=0.05) and (area < 0.05).float().mean() == pytest.approx(
        0.058, abs=0.025
    )
    assert 0.8 < area.max() <= 1.06
    for channel in (0, 1):  # small ones lie anywhere
        centre = images[area < 0.1, channel].mean((1, 2)) * 255 / 250
        assert centre.min() < 0.25 and centre.max() > 0.75 and centre.mean() == pytest.approx(0.5, abs=0.1)
    ratio = (across / down)[area > 0.05]
    assert 0.7 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.42
    assert ratio.log().mean().item() == pytest.approx(0, abs=0.03)
    assert (extent(crops(places(), **{**WHOLE, "area": 0.5}), 0) > 0.5 * VISIBLE).all()


def test_crops_are_turned_evenly_both_ways(crops):
    images = crops(places(), **{**WHOLE, "degrees": 30.0})
    for channel in (0, 1):
        angle = slope(images, channel)
        assert angle.min() > -31 and angle.max() < 31
        assert angle.std() == pytest.approx(60 / math.sqrt(12), abs=2) and angle.mean() == pytest.approx(0, abs=4)
    assert torch.allclose(slope(images, 0), -slope(images, 1), atol=1.5)  # turned as a whole
    assert (images.sum(1) > 0.2).all()  # at 45 degrees and less no corner comes in


def test_crops_are_sheared_along_their_rows(crops):
    images = crops(places(), **{**WHOLE, "shear": 30.0})
    assert slope(images, 0).abs().max() < 1
    angle = slope(images, 1)
    assert angle.min() > -31 and angle.max() < 31 and angle.std() == pytest.approx(60 / math.sqrt(12), abs=2)


def test_the_form_is_that_of_the_teachers_images_without_distortion(crops):
    images = crops(places(150, 300), shape=(3, 24, 36), n=40, **{**WHOLE, "first_crop": 0.8})
    # The largest window of 2 to 3 in 150 x 300 is 150 x 225.
    assert images.shape[1:] == (3, 24, 36)
    assert extent(images, 0) * 150 == pytest.approx([0.8 * 150 * VISIBLE] * 40, abs=4)
    assert extent(images, 1) * 300 == pytest.approx([0.8 * 225 * VISIBLE] * 40, abs=6)


def test_a_share_of_the_crops_has_another_brightness(crops):
    grey = np.full((40, 40, 3), 128, np.uint8)  # whose contrast, saturation and hue are nothing
    light = crops(grey, n=400, **{**WHOLE, "jitter": 0.5}).mean((1, 2, 3)) * 255 / 128
    changed = (light - 1).abs() > 0.002
    assert changed.float().mean() == pytest.approx(0.5, abs=0.07)
    assert light.min() == pytest.approx(0.6, abs=0.03) and light.max() == pytest.approx(1.4, abs=0.03)
    assert (crops(grey, n=50, **WHOLE) == crops(grey, n=50, **WHOLE)[:1]).all()


def test_contrast_saturation_and_hue_change_too(crops):
    halves = np.full((40, 40, 3), 90, np.uint8)
    halves[:20] = 150
    images = crops(halves, n=300, **{**WHOLE, "jitter": 1.0})
    relative = images.std((1, 2, 3)) / images.mean((1, 2, 3))  # brightness does not change it
    relative = relative / relative.median()
    assert abs(torch.corrcoef(torch.stack([relative, images.mean((1, 2, 3))]))[0, 1]) < 0.3  # each has its strength
    assert relative.min() == pytest.approx(0.6, abs=0.05) and relative.max() == pytest.approx(1.4, abs=0.05)
    red = np.full((40, 40, 3), (150, 90, 90), np.uint8)
    red, green, blue = crops(red, n=300, **{**WHOLE, "jitter": 1.0}).mean((2, 3)).T
    # Turned by a tenth of the circle either way, the third part of the least that a colour needs to be no red any more.
    assert (red > green).all() and (red > blue).all()
    turned = torch.rad2deg(torch.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue)) / 360
    assert turned.min() == pytest.approx(-0.1, abs=0.01) and turned.max() == pytest.approx(0.1, abs=0.01)
    most, least = torch.stack([red, green, blue]).amax(0), torch.stack([red, green, blue]).amin(0)
    saturation = (most - least) / most
    assert saturation.min() < 0.28 and saturation.max() > 0.5  # 0.4 before


def test_each_crop_is_of_a_random_image_of_a_folder_and_below_it(tmp_path):
    colours = {"one.png": (200, 0, 0), "two.JPG": (0, 200, 0), "deep/er/three.webp": (0, 0, 200), ".hidden.png": (90, 90, 90),
               ".trash/four.png": (90, 90, 90)}  # fmt: skip
    for name, colour in colours.items():
        save(tmp_path / name, np.full((20, 30, 3), colour, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    method = build("single-image", teacher(), images=str(tmp_path), n=300, batch=100, **WHOLE)
    images = torch.cat([method.batch(index).images for index in range(3)])
    brightest, shares = images.mean((2, 3)).max(1), images.mean((2, 3)).argmax(1).bincount() / 300
    assert brightest.values.min() > 0.7 and shares == pytest.approx([1 / 3] * 3, abs=0.09)
    assert method.about() == {"label": "crops of 3 photographs", "origin": "other"}


def test_a_file_is_named(tmp_path):
    path = save(tmp_path / "street.png", places())
    assert build("single-image", teacher(), images=path).about()["label"] == "crops of street.png"


def test_a_photograph_stands_upright(crops, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter when it is shown
    path = save(tmp_path / "turned.jpg", np.rot90(places()).copy(), exif=exif, quality=95)
    image = build("single-image", teacher(), images=path, n=1, batch=1, **WHOLE).batch(0).images
    assert extent(image, 0).item() == pytest.approx(VISIBLE, abs=0.04) and extent(image, 1).item() == pytest.approx(
        VISIBLE, abs=0.04
    )


def test_what_is_made_smaller_is_filtered(crops):
    checked = np.indices((SIDE, SIDE)).sum(0)[..., None].repeat(3, 2) % 2 * 255
    assert crops(checked.astype(np.uint8), n=2, **WHOLE) == pytest.approx(0.5, abs=0.05)


def test_a_grey_teacher_gets_grey_crops(crops):
    images = crops(np.full((40, 40, 3), (200, 100, 50), np.uint8), shape=(1, 24, 24), n=2, **WHOLE)
    assert images.shape == (2, 1, 24, 24)
    assert images.unique().tolist() == pytest.approx([(0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255], abs=0.002)


def test_an_image_of_a_pixel_gives_crops(crops):
    assert crops(np.full((1, 1, 3), 255, np.uint8), n=30, **STILL).min() == 1


def test_parts_of_all_the_area_need_not_be_found_by_chance(crops):
    images = crops(places(400, 400), n=400, **WHOLE)
    assert extent(images, 0) == pytest.approx([VISIBLE] * 400, abs=0.03)


def test_a_folder_is_named_in_any_way_and_may_hold_a_link_to_itself(tmp_path, monkeypatch):
    for name in ("own/a.png", "own/deeper/b.png", ".hidden/c.png"):
        save(tmp_path / name, places())
    (tmp_path / "own/deeper/up").symlink_to(tmp_path / "own")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("../own", "./../own", f"{tmp_path}//own/", "../work/../own"):
        assert [path.name for path in image_paths(name)] == ["a.png", "b.png"]
    assert [path.name for path in image_paths("../.hidden")] == ["c.png"]


def test_what_is_no_image_is_refused(tmp_path):
    """Before the first crop: a file that is removed later is missed by those that were made with it."""

    def refusal(path):
        with pytest.raises(UserError) as caught:
            build("single-image", teacher(), images=str(path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert refusal(tmp_path / "none.jpg").startswith(f"{tmp_path}/none.jpg: ")
    assert refusal(tmp_path).startswith(f"{tmp_path}: contains no images (.png, ")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "broken.jpg", tmp_path / "folder" / "broken.jpg"):
        place.write_bytes(b"\xff\xd8\xff\xe0" + os.urandom(200))
        where = place if place.parent == tmp_path else place.parent
        assert refusal(where).startswith(f"{place}: is not a readable PNG, JPEG,")
