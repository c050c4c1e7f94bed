"""Scenes: several objects on a ground in the colours of photographs, for teachers of natural images."""

import math

import torch
import torch.nn.functional as F

from .blocks import BLOCKS, assemble, draw_blocks
from .coordinates import centred

THINGS, ROUGH = 3, 0.4  # objects in a scene at most, and how rough surfaces are at most, as a deviation
WARM, GREEN = 0.2, 0.05  # deviations of the colours of scenes from warm to cold, and from green to magenta


def scenes(number, like, rng):
    """A ground of two parts and one to three objects on it, the last of them large and near the middle; all rough like 1/f
    noise, objects lit from a side; colours that differ in brightness first, then from warm to cold. -> (number, C, H, W)."""
    channels, height, width = like.image_shape

    def draw(*size):
        return torch.rand(number, *size, generator=rng)

    rows, columns = centred(height, width)

    def colour():
        tint = WARM * normal() * torch.tensor([1.0, 0.0, -1.0]) + GREEN * normal() * torch.tensor([0.5, -1.0, 0.5])
        grey = draw(1, 1, 1).expand(-1, channels, -1, -1)
        return (grey + tint[:, :, None, None]).clamp(0, 1) if channels == 3 else grey

    def normal():
        return torch.randn(number, 1, generator=rng)

    def lean(draw, share, level):
        return (draw(1, 1) - 0.5) * math.pi * torch.where(draw(1, 1) < share, level, 1.0)

    def rough(draw):
        return ROUGH * draw(1, 1, 1) ** 1.5 * _texture(draw, height, width)

    # Where one part of the ground ends and the other begins, as a rule nearly level.
    angle = lean(draw, 0.6, 0.15)
    beyond = rows * angle.cos() + columns * angle.sin() - 1.6 * (draw(1, 1) - 0.5)
    part = torch.sigmoid(beyond / (0.02 * 60 ** draw(1, 1)))[:, None]
    images = (colour() + rough(draw)) * (1 - part) + (colour() + rough(draw)) * part
    things = torch.randint(1, THINGS + 1, (number,), generator=rng)
    for place in reversed(range(THINGS)):
        # Only in images with such a thing, as most of the work is in its pixels; random numbers are taken for all, so that they
        # stay those of the seed.
        there = (things > place).nonzero()[:, 0]
        some, some_colour = _rows(draw, there), _rows(colour, there)
        smaller, far = (0.5 + 1.3 * some(1, 1), 0.7) if place == 0 else (5 ** some(1, 1), 2.0)
        mirrored, softness = some(1, 1) < 0.5, (0.02 + 0.05 * some(1, 1)) * smaller
        count = torch.randint(1, BLOCKS + 1, (number,), generator=rng)[there]
        blocks = draw_blocks(some, some_colour)
        down, right = (smaller * (line - far * (some(1, 1) - 0.5)) for line in (rows, columns))
        turn = lean(some, 0.7, 0.2)
        down, right = down * turn.cos() - right * turn.sin(), down * turn.sin() + right * turn.cos()
        colours, cover = assemble(blocks, count, down, right, mirrored, softness)
        light = 1 + 0.9 * ((some(1, 1) - 0.5) * down + (some(1, 1) - 0.5) * right)
        ground = images[there]
        images[there] = ground + cover[:, None] * (colours * light[:, None] + rough(some) - ground)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return torch.lerp(images, blurred, 0.6 * draw(1, 1, 1)).clamp(0, 1)


def _rows(draw, there):
    """``draw`` for all images, of which only those at ``there`` are given."""
    return lambda *size: draw(*size)[there]


def _texture(draw, height, width):
    """Noise of which finer octaves are weaker, more or less, turned and drawn out; mean 0, deviation 1. -> (N,1,H,W)."""
    side, weaker, total = max(height, width), 0.2 + 1.2 * draw(1, 1, 1), 0
    for cells in (2**octave for octave in range(2, max(side.bit_length(), 3))):
        grid = F.interpolate(draw(1, cells, cells) - 0.5, (side, side), mode="bilinear", align_corners=False)
        total = total + grid * (cells / 4) ** -weaker
    angle, along, across = 2 * math.pi * draw(1), *(torch.exp(-1.2 * draw(1)) for _ in range(2))
    none = torch.zeros_like(angle)
    if not len(angle):  # affine_grid refuses to make none
        return torch.zeros(0, 1, height, width)
    turned = torch.stack([along * angle.cos(), -across * angle.sin(), none, along * angle.sin(), across * angle.cos(), none], 2)
    places = F.affine_grid(turned.view(-1, 2, 3), (len(total), 1, height, width), align_corners=False)
    sampled = F.grid_sample(total, places, padding_mode="reflection", align_corners=False)
    std, mean = torch.std_mean(sampled, (2, 3), correction=0, keepdim=True)
    return (sampled - mean) / std.clamp_min(1e-6)
