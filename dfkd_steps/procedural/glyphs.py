"""Glyphs: images of what a pen writes, for teachers of digits and letters."""

import math

import torch

from .coordinates import centred, reach, span

LINES, DOTS = 4, 48  # the same of glyphs, which reach further
ARCS = 0.5  # share of the lines of glyphs that are arcs of ellipses


def glyphs(number, like, rng):
    """What a pen writes: one to four lines, curves and arcs, most of them joined, that reach through most of the image; as a rule
    white on black. -> (number, C, H, W)."""
    channels, height, width = like.image_shape

    def draw(*size):
        return torch.rand(number, *size, generator=rng)

    points = _written(draw)
    count = 1 + (LINES * draw(1)).long()
    there = (torch.arange(LINES) < count).repeat_interleave(DOTS, 1)

    # So that they fill a part of the image, as they are or a little stretched, in the middle or a little off it.
    spans = [span(there, axis) for axis in points.unbind(2)]
    halves, filled = reach(spans, 0.5 * draw(1, 1)), 0.4 + 0.5 * draw(1, 1)
    places = [
        (axis[..., None] - middle) * filled / half + (1 - filled) * (draw(1, 1) - 0.5)
        for axis, (middle, _), half in zip(points.unbind(2), spans, halves)
    ]
    rows, columns = centred(height, width)
    nearest = torch.full((number, height, width), math.inf)
    for down, right, drawn in zip(*(values.unbind(1) for values in (*places, there[..., None, None]))):
        away = (rows - down[:, None]).square() + (columns - right[:, None]).square()
        nearest = torch.where(drawn, torch.minimum(nearest, away), nearest)
    thickness, softness = 0.02 + 0.12 * draw(1, 1), 0.03 + 0.1 * draw(1, 1)
    cover = ((thickness + softness - nearest.sqrt()) / softness).clamp(0, 1)[:, None]
    ground = torch.where(draw(1, 1, 1) < 0.9, 0.0, draw(channels, 1, 1))
    colour = torch.where(draw(1, 1, 1) < 0.85, 1.0, draw(channels, 1, 1))
    return ground + cover * (colour - ground)


def _written(draw):
    """Points (N,LINES*DOTS,2) along lines, curves (quadratic Bezier) and arcs of ellipses, DOTS of each: one begins as a rule
    where the one before ended, goes on without a corner or turns, and ends anywhere; curves also where the first one began."""
    along = torch.linspace(0, 1, DOTS)[:, None]

    def place():
        return 2 * draw(2) - 1

    begin, heading = place(), place()
    last, crossed, points = begin, begin, []
    for _ in range(LINES):
        chance, smooth = draw(1), draw(1) < 0.6
        first = torch.where(chance < 0.75, last, torch.where(chance < 0.9, crossed, place()))
        end = torch.where(draw(1) < 0.25, begin, place())
        middle = torch.where(smooth, first + (0.3 + draw(1)) * heading, 1.3 * place())
        middle = torch.where(draw(1) < 0.2, (first + end) / 2, middle)  # a straight line
        ends = [point[:, None] for point in (first, middle, end)]
        curve = torch.lerp(torch.lerp(*ends[:2], along), torch.lerp(*ends[1:], along), along)
        points.append(torch.where(draw(1, 1) < ARCS, first[:, None] + _arc(draw, along, heading, smooth), curve))
        last, crossed = points[-1][:, -1], points[-1][:, DOTS // 2]
        heading = (last - points[-1][:, -2]) * (DOTS - 1) / 2
    return torch.cat(points, 1)


def _arc(draw, along, heading, smooth):
    """Points (N,DOTS,2) along a quarter of an ellipse, or more, up to all of it; from 0 on, in the direction of ``heading`` (N,2)
    where it is to be ``smooth`` (N,1), as near as a circle would be."""
    sides, side = 0.2 + 0.6 * draw(2), torch.where(draw(1) < 0.5, 1.0, -1.0)
    start = torch.where(smooth, torch.atan2(-side * heading[:, :1], side * heading[:, 1:]), 2 * math.pi * draw(1))
    angle = (start + side * (0.5 + 1.5 * draw(1)) * math.pi * along[:, 0])[..., None]
    circle = torch.cat([angle.cos(), angle.sin()], 2)
    return sides[:, None] * (circle - circle[:, :1])
