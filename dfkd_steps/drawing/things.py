"""What stands somewhere: one object, or several in a scene."""

import math

import torch
import torch.nn.functional as F

from .places import centred, reach, span

BLOCKS, COARSE = 5, 48  # rounded blocks of an object at most, and the side at which is seen how far it reaches
THINGS, ROUGH = 3, 0.4  # objects in a scene at most, and how rough surfaces are at most, as a deviation
WARM, GREEN = 0.2, 0.05  # deviations of the colours of scenes from warm to cold, and from green to magenta


def objects(number, like, generator):
    """One object on a black ground, reaching through most of the image: one to five rounded blocks, some of them cut out, more
    often than not with their mirror images; the surface shaded, rough or striped. -> (number, C, H, W)."""
    channels, height, width = like.image_shape
    draw = lambda *size: torch.rand(number, *size, generator=generator)  # noqa: E731
    mirrored, softness = draw(1, 1) < 0.6, 0.03 + 0.05 * draw(1, 1)
    colour = lambda: 0.15 + 0.85 * draw(channels, 1, 1)  # noqa: E731
    blocks = _blocks(draw, colour, torch.randint(1, BLOCKS + 1, (number, 1, 1), generator=generator))

    # Once coarsely, to see how far it reaches; then so that it fills the image, as it is or a little stretched.
    whole = [one.expand(number, -1, -1) for one in centred(COARSE, COARSE)]
    there = _assembled(blocks, *whole, mirrored, softness)[1] > 0.5
    spans = [span(there.any(across), line.flatten(1)) for across, line in ((2, whole[0]), (1, whole[1]))]
    halves, filled = reach(spans, draw(1, 1)), 0.7 + 0.3 * draw(1, 1)
    rows, columns = (middle + one * half / filled for one, (middle, _), half in zip(centred(height, width), spans, halves))
    colours, cover = _assembled(blocks, rows, columns, mirrored, softness)
    return (colours * (cover * _surface(draw, height, width))[:, None]).clamp(0, 1)


def _blocks(draw, new_colour, count):
    """What the blocks of objects are: middle and half sides (N,2), angle (N,1,1), how square (N,1,1), colour (N,C,1,1), whether
    it is there and whether it is cut out (N,1,1). Each has its middle somewhere in the one before."""
    made, middle, sides, colour = [], 0.6 * (draw(2) - 0.5), 0.25 + 0.6 * draw(2), new_colour()
    for place in range(BLOCKS):
        angle = torch.where(draw(1, 1) < 0.4, 0.0, (draw(1, 1) - 0.5) * math.pi)
        cut = (draw(1, 1) < 0.2) & (place > 0)
        made.append((middle, sides, angle, 2 * 4 ** draw(1, 1), colour, place < count, cut))
        middle = (middle + 2 * (draw(2) - 0.5) * sides).clamp(-0.9, 0.9)
        sides = 0.08 + 0.6 * draw(2) ** 1.5
        colour = torch.where(draw(1, 1, 1) < 0.5, new_colour(), colour)
    return made


def _assembled(blocks, rows, columns, mirrored, softness):
    """Colours (N,C,H,W) and cover (N,H,W) of objects at vertical and horizontal places, from -1 to 1 and beyond."""
    fold = lambda places: torch.where(mirrored, places.abs(), places)  # noqa: E731
    colours, cover = torch.zeros(()), torch.zeros(1, 1, 1)
    for middle, sides, angle, power, colour, there, cut in blocks:
        down, right = rows - middle[:, :1, None], fold(columns) - fold(middle[:, 1:, None])
        along = (down * angle.cos() + right * angle.sin()) / sides[:, :1, None]
        across = (right * angle.cos() - down * angle.sin()) / sides[:, 1:, None]
        # A superellipse, from a disc to nearly a rectangle.
        distance = (along.abs() ** power + across.abs() ** power) ** (1 / power)
        inside = ((1 - distance) * sides.amin(1)[:, None, None] / softness + 0.5).clamp(0, 1) * there
        left = cover * (1 - inside)
        cut = cut & (left.amax((1, 2), keepdim=True) > 0.5)  # never all that there is
        colours = colours + (inside * ~cut)[:, None] * (colour - colours)
        cover = torch.where(cut, left, torch.maximum(cover, inside))
    return colours, cover


def _surface(draw, height, width):
    """Brightness of surfaces (N,H,W): a slope, and some of the time coarse and fine roughness and stripes."""
    rows, columns = centred(height, width)

    def some(share, most):
        return torch.where(draw(1, 1) < share, most * draw(1, 1), 0.0)

    slope = 1 + 0.6 * ((draw(1, 1) - 0.5) * rows + (draw(1, 1) - 0.5) * columns)
    coarse = F.interpolate(draw(1, -(-height // 4), -(-width // 4)), (height, width), mode="bilinear", align_corners=False)[:, 0]
    angle = torch.where(draw(1, 1) < 0.7, (draw(1, 1) < 0.5) * (math.pi / 2), draw(1, 1) * math.pi)
    phase = (4 + 16 * draw(1, 1)) * (rows * angle.cos() + columns * angle.sin()) + 2 * math.pi * draw(1, 1)
    rough = some(0.6, 1.0) * (coarse - 0.5) + some(0.6, 0.8) * (draw(height, width) - 0.5)
    return (slope + rough + some(0.3, 0.5) * phase.sin()).clamp_min(0.1)


def scenes(number, like, generator):
    """A ground of two parts and one to three objects on it, the last of them large and near the middle; all rough like 1/f
    noise, objects lit from a side; colours that differ in brightness first, then from warm to cold. -> (number, C, H, W)."""
    channels, height, width = like.image_shape
    draw = lambda *size: torch.rand(number, *size, generator=generator)  # noqa: E731
    rows, columns = centred(height, width)

    def colour():
        tint = WARM * normal() * torch.tensor([1.0, 0.0, -1.0]) + GREEN * normal() * torch.tensor([0.5, -1.0, 0.5])
        grey = draw(1, 1, 1).expand(-1, channels, -1, -1)
        return (grey + tint[:, :, None, None]).clamp(0, 1) if channels == 3 else grey

    def normal():
        return torch.randn(number, 1, generator=generator)

    def lean(share, level):
        return (draw(1, 1) - 0.5) * math.pi * torch.where(draw(1, 1) < share, level, 1.0)

    def rough():
        return ROUGH * draw(1, 1, 1) ** 1.5 * _texture(draw, height, width)

    # Where one part of the ground ends and the other begins, as a rule nearly level.
    angle = lean(0.6, 0.15)
    beyond = rows * angle.cos() + columns * angle.sin() - 1.6 * (draw(1, 1) - 0.5)
    part = torch.sigmoid(beyond / (0.02 * 60 ** draw(1, 1)))[:, None]
    images = (colour() + rough()) * (1 - part) + (colour() + rough()) * part
    count = torch.randint(1, THINGS + 1, (number, 1, 1), generator=generator)
    for place in reversed(range(THINGS)):
        smaller, far = (0.5 + 1.3 * draw(1, 1), 0.7) if place == 0 else (5 ** draw(1, 1), 2.0)
        mirrored, softness = draw(1, 1) < 0.5, (0.02 + 0.05 * draw(1, 1)) * smaller
        blocks = _blocks(draw, colour, torch.randint(1, BLOCKS + 1, (number, 1, 1), generator=generator))
        down, right = (smaller * (line - far * (draw(1, 1) - 0.5)) for line in (rows, columns))
        turn = lean(0.7, 0.2)
        down, right = down * turn.cos() - right * turn.sin(), down * turn.sin() + right * turn.cos()
        colours, cover = _assembled(blocks, down, right, mirrored, softness)
        light = 1 + 0.9 * ((draw(1, 1) - 0.5) * down + (draw(1, 1) - 0.5) * right)
        cover = (cover * (place < count))[:, None]
        images = images + cover * (colours * light[:, None] + rough() - images)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return torch.lerp(images, blurred, 0.6 * draw(1, 1, 1)).clamp(0, 1)


def _texture(draw, height, width):
    """Noise of which finer octaves are weaker, more or less, turned and drawn out; mean 0, deviation 1. -> (N,1,H,W)."""
    side, weaker, total = max(height, width), 0.2 + 1.2 * draw(1, 1, 1), 0
    for cells in (2**octave for octave in range(2, max(side.bit_length(), 3))):
        grid = F.interpolate(draw(1, cells, cells) - 0.5, (side, side), mode="bilinear", align_corners=False)
        total = total + grid * (cells / 4) ** -weaker
    angle, along, across = 2 * math.pi * draw(1), *(torch.exp(-1.2 * draw(1)) for _ in range(2))
    none = torch.zeros_like(angle)
    turned = torch.stack([along * angle.cos(), -across * angle.sin(), none, along * angle.sin(), across * angle.cos(), none], 2)
    places = F.affine_grid(turned.view(-1, 2, 3), (len(total), 1, height, width), align_corners=False)
    found = F.grid_sample(total, places, padding_mode="reflection", align_corners=False)
    std, mean = torch.std_mean(found, (2, 3), correction=0, keepdim=True)
    return (found - mean) / std.clamp_min(1e-6)
