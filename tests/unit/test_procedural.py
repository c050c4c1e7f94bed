"""Procedural images: what is drawn, at any size and with any number of channels."""

import math
from types import SimpleNamespace

import pytest
import torch

from dfkd_steps.procedural import blocks, coordinates, glyphs, registry, scenes

SHAPES = [(1, 28, 28), (3, 32, 48)]


def drawn(kind, number=200, shape=SHAPES[0], seed=0):
    return registry.load(kind)(number, SimpleNamespace(image_shape=shape), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", registry.PROCEDURAL)
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


def test_glyphs_are_white_on_black_as_a_rule_and_reach_through_most_of_their_image():
    images = drawn("glyphs", 1000)[:, 0]
    black = images.flatten(1).median(1).values == 0
    white = images.amax((1, 2)) > 0.9
    assert 0.8 < black.float().mean() < 0.99 and 0.75 < white[black].float().mean() < 0.99
    there = images[black & white] > 0.3
    height, width = there.any(2).sum(1) / 28, there.any(1).sum(1) / 28
    longest = torch.maximum(height, width)
    assert (longest > 0.3).float().mean() > 0.97 and 0.6 < longest.median() < 0.9
    assert torch.minimum(height, width).median() > 0.35  # they are no mere lines


def test_arcs_begin_at_zero_in_the_direction_of_the_pen_and_turn_one_way_at_most_once():
    rng, number = torch.Generator().manual_seed(0), 500
    draw = lambda *size: torch.rand(number, *size, generator=rng)  # noqa: E731
    heading, along = 2 * draw(2) - 1, torch.linspace(0, 1, 400)[:, None]
    points = glyphs._arc(draw, along, heading, torch.ones(number, 1, dtype=torch.bool))
    assert points.shape == (number, 400, 2) and torch.equal(points[:, 0], torch.zeros(number, 2))
    steps = points.diff(dim=1)
    assert ((steps[:, 0] * heading).sum(1) > 0).all()
    turns = steps[:, :-1, 0] * steps[:, 1:, 1] - steps[:, :-1, 1] * steps[:, 1:, 0]
    assert (turns.sign() == turns[:, :1].sign()).all() and 0.4 < (turns[:, 0] > 0).float().mean() < 0.6
    corner = torch.atan2(turns, (steps[:, :-1] * steps[:, 1:]).sum(2)).abs().sum(1)
    assert (corner > 0.2 * math.pi).all() and (corner < 2.01 * math.pi).all() and corner.max() - corner.min() > math.pi
    none = glyphs._arc(draw, along, heading, torch.zeros(number, 1, dtype=torch.bool)).diff(dim=1)[:, 0]
    assert 0.3 < ((none * heading).sum(1) > 0).float().mean() < 0.7  # and where it need not be smooth, in any


@pytest.mark.parametrize("channels", [1, 3])
def test_a_glyph_has_one_colour_on_one_ground(channels):
    images = drawn("glyphs", 50, (channels, 28, 28)).flatten(2)
    ground = images[:, :, :1]
    furthest = (images - ground).abs().sum(1).argmax(1)
    colour = images.gather(2, furthest[:, None, None].expand(-1, channels, 1))
    along = ((images - ground) * (colour - ground)).sum(1, keepdim=True)
    along = along / (colour - ground).square().sum(1, keepdim=True).clamp_min(1e-6)
    assert torch.allclose(images, ground + along * (colour - ground), atol=1e-3)


def test_colours_of_scenes_differ_in_brightness_before_tint_and_in_warmth_before_green():
    red, green, blue = drawn("scenes", shape=(3, 32, 32)).mean((2, 3)).unbind(1)
    brightness, warmth, magenta = ((red + green + blue) / 3).std(), (red - blue).std(), (red / 2 + blue / 2 - green).std()
    assert brightness > 0.1 and brightness > 2 * magenta and warmth > 2 * magenta > 0.02


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 2, 2), (2, 5, 5), (3, 224, 224)])
def test_scenes_of_any_size(shape):
    images = drawn("scenes", 4, shape)
    assert images.shape == (4, *shape) and torch.isfinite(images).all() and len(images.flatten(1).unique(dim=0)) == 4


def test_textures_have_a_scale_and_finer_detail_is_weaker():
    texture = scenes._texture(lambda *size: torch.rand(300, *size, generator=torch.Generator().manual_seed(0)), 32, 32)
    assert texture.shape == (300, 1, 32, 32)
    assert texture.mean((2, 3)).abs().max() < 1e-4 and (texture.std((2, 3), correction=0) - 1).abs().max() < 1e-3
    power = torch.fft.rfft2(texture).abs().square().mean((0, 1))
    assert power[1:5, 1:5].mean() > 10 * power[8:16, 8:16].mean() > 0


def test_reach_keeps_the_form_unless_it_is_stretched():
    spans = [(torch.zeros(1, 1, 1), torch.full((1, 1, 1), half)) for half in (0.2, 0.8)]
    for stretched, expected in ((0.0, (0.8, 0.8)), (1.0, (0.2, 0.8)), (0.5, (0.4, 0.8))):
        assert [half.item() for half in coordinates.reach(spans, stretched)] == pytest.approx(expected)


def test_objects_are_assembled_alike_alone_and_among_others():
    """Those with fewer blocks are left out of the later ones, and come back to their places."""
    number, rng = 7, torch.Generator().manual_seed(3)

    def draw(*size):
        return torch.rand(number, *size, generator=rng)

    count = torch.tensor([2, 5, 1, 3, 0, 5, 2])
    blocks_drawn = blocks.draw_blocks(draw, lambda: draw(3, 1, 1))
    rows, columns = (axis.expand(number, -1, -1) for axis in coordinates.centred(20, 30))
    mirrored, softness = draw(1, 1) < 0.5, 0.03 + 0.05 * draw(1, 1)
    together = blocks.assemble(blocks_drawn, count, rows, columns, mirrored, softness)
    for place in range(number):
        alone = slice(place, place + 1)
        there = [[part[alone] for part in block] for block in blocks_drawn[: max(count[place], 1)]]
        single = blocks.assemble(there, *(part[alone] for part in (count, rows, columns, mirrored, softness)))
        for several, one_object in zip(together, single):
            torch.testing.assert_close(several[alone], one_object)
    assert together[1][4].max() == 0 and all(together[1][place].max() > 0.5 for place in (0, 1, 2, 3, 5, 6))


@pytest.mark.parametrize(
    ("kind", "number", "brightness"),
    [
        ("scenes", 20, [0.361, 0.527, 0.518, 0.717, 0.881, 0.482, 0.444, 0.432, 0.571, 0.532, 0.321, 0.318]),
        ("scenes", 2, [0.443, 0.766]),  # none of which has a third thing
        ("objects", 20, [0.38, 0.081, 0.248, 0.11, 0.283, 0.188, 0.324, 0.106, 0.356, 0.278, 0.336, 0.209]),
        ("smooth", 20, [0.52, 0.499, 0.434, 0.655, 0.489, 0.491, 0.527, 0.507, 0.519, 0.475, 0.491, 0.528]),
        ("leaves", 20, [0.453, 0.442, 0.546, 0.493, 0.337, 0.588, 0.473, 0.632, 0.557, 0.367, 0.52, 0.369]),
        ("fractals", 20, [0.194, 0.248, 0.15, 0.105, 0.134, 0.148, 0.193, 0.138, 0.147, 0.157, 0.134, 0.102]),
        ("strokes", 20, [0.167, 0.731, 0.069, 0.089, 0.082, 0.254, 0.226, 0.423, 0.342, 0.074, 0.268, 0.356]),
        ("glyphs", 20, [0.485, 0.134, 0.219, 0.118, 0.279, 0.421, 0.269, 0.035, 0.05, 0.282, 0.115, 0.343]),
    ],
)
def test_a_seed_draws_the_images_that_it_has_always_drawn(kind, number, brightness):
    """As by the code that drew all blocks of all things everywhere, and left out afterwards what is not there."""
    means = drawn(kind, number, (3, 32, 48)).mean((1, 2, 3))
    torch.testing.assert_close(means[: len(brightness)], torch.tensor(brightness), atol=1e-3, rtol=0)
