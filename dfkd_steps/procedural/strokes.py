"""Strokes: images of a few curves."""

import math

import torch

from .coordinates import grid

CURVES, POINTS = 3, 24  # strokes of an image at most, and points that each is drawn by


def strokes(number, like, rng):
    """One to three curves (quadratic Bezier) of random width, colour and softness on a plain dark or random ground.
    -> (number, C, H, W)."""
    channels, height, width = like.image_shape

    def draw(*size):
        return torch.rand(number, *size, generator=rng)

    plain = draw(1, 1, 1) < 0.75
    images = torch.where(plain, 0.0, draw(channels, 1, 1)).expand(-1, -1, height, width).clone()
    rows, columns = grid(height, width)
    thickness, softness = 0.02 + 0.06 * draw(1, 1), 0.01 + 0.04 * draw(1, 1)
    colour = torch.where(draw(1, 1, 1) < 0.75, 1.0, draw(channels, 1, 1))
    along = torch.linspace(0, 1, POINTS)
    number_drawn, last = torch.randint(1, CURVES + 1, (number,), generator=rng), draw(2)
    for curve in range(CURVES):
        # A curve begins where the one before ended, as often as not.
        first = torch.where(draw(1) < 0.5, last, 0.1 + 0.8 * draw(2))
        middle, last = draw(2) * 1.4 - 0.2, 0.1 + 0.8 * draw(2)
        nearest = torch.full((number, height, width), math.inf)
        for t in along.tolist():
            point = (1 - t) ** 2 * first + 2 * t * (1 - t) * middle + t**2 * last
            nearest = torch.minimum(nearest, (rows - point[:, :1, None]).square() + (columns - point[:, 1:, None]).square())
        cover = ((thickness + softness - nearest.sqrt()) / softness).clamp(0, 1)
        cover = cover * (curve < number_drawn)[:, None, None]
        images = images + cover[:, None] * (colour - images)
    return images
