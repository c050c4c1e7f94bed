"""Procedural images as an arbitrary transfer set (Nayak et al., WACV 2021, arXiv 2011.09113): made here, no download."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..fields import opt
from .base import Batch, TransferConfig
from .base import Method as Base

LEAVES, SMALLEST = 60, 0.03  # discs of an image, and the least radius as a share of its side
CURVES, POINTS = 3, 24  # strokes of an image at most, and points that each is drawn by
LINES, DOTS = 4, 48  # the same of glyphs, which reach further
ARCS = 0.5  # share of the lines of glyphs that are arcs of ellipses
MAPS, PARTICLES, STEPS = 3, 512, 24  # of an iterated function system
BLOCKS, COARSE = 5, 48  # rounded blocks of an object at most, and the side at which is seen how far it reaches
THINGS, ROUGH = 3, 0.4  # objects in a scene at most, and how rough surfaces are at most, as a deviation
WARM, GREEN = 0.2, 0.05  # deviations of the colours of scenes from warm to cold, and from green to magenta


def _grid(height, width):
    """Pixel centres as shares of the sides: vertical (H,1), horizontal (1,W)."""
    return ((torch.arange(height) + 0.5) / height)[:, None], ((torch.arange(width) + 0.5) / width)[None, :]


def _centred(height, width):
    """The same from -1 to 1."""
    return [2 * one - 1 for one in _grid(height, width)]


def leaves(number, like, generator):
    """Dead leaves: discs of random colour, radii with density r^-3, each over the ones before. -> (number, C, H, W)."""
    channels, height, width = like.image_shape
    draw = lambda *size: torch.rand(number, *size, generator=generator)  # noqa: E731 (a name for one long call)
    images = draw(channels, 1, 1).expand(-1, -1, height, width).clone()
    rows, columns = _grid(height, width)
    for _ in range(LEAVES):
        # Inverse of the distribution function of r^-3 between the smallest radius and half a side.
        radius = (SMALLEST**-2 - draw(1, 1) * (SMALLEST**-2 - 0.5**-2)) ** -0.5
        inside = (rows - draw(1, 1)).square() + (columns - draw(1, 1)).square() < radius.square()
        images = torch.where(inside[:, None], draw(channels, 1, 1), images)
    return images


def strokes(number, like, generator):
    """One to three curves (quadratic Bezier) of random width, colour and softness on a plain dark or random ground.
    -> (number, C, H, W)."""
    channels, height, width = like.image_shape
    draw = lambda *size: torch.rand(number, *size, generator=generator)  # noqa: E731
    plain = draw(1, 1, 1) < 0.75
    images = torch.where(plain, 0.0, draw(channels, 1, 1)).expand(-1, -1, height, width).clone()
    rows, columns = _grid(height, width)
    thickness, softness = 0.02 + 0.06 * draw(1, 1), 0.01 + 0.04 * draw(1, 1)
    colour = torch.where(draw(1, 1, 1) < 0.75, 1.0, draw(channels, 1, 1))
    along = torch.linspace(0, 1, POINTS)
    number_drawn, last = torch.randint(1, CURVES + 1, (number,), generator=generator), draw(2)
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


def glyphs(number, like, generator):
    """What a pen writes: one to four lines, curves and arcs, most of them joined, that reach through most of the image; as a rule
    white on black. -> (number, C, H, W)."""
    channels, height, width = like.image_shape
    draw = lambda *size: torch.rand(number, *size, generator=generator)  # noqa: E731
    points = _written(draw)
    count = 1 + (LINES * draw(1)).long()
    there = (torch.arange(LINES) < count).repeat_interleave(DOTS, 1)

    # So that they fill a part of the image, as they are or a little stretched, in the middle or a little off it.
    spans = [_span(there, one) for one in points.unbind(2)]
    longest, stretched, filled = torch.maximum(spans[0][1], spans[1][1]), 0.5 * draw(1, 1), 0.4 + 0.5 * draw(1, 1)
    places = [
        (one[..., None] - middle) * filled / (half**stretched * longest ** (1 - stretched)) + (1 - filled) * (draw(1, 1) - 0.5)
        for one, (middle, half) in zip(points.unbind(2), spans)
    ]
    rows, columns = _centred(height, width)
    nearest = torch.full((number, height, width), math.inf)
    for down, right, drawn in zip(*(one.unbind(1) for one in (*places, there[..., None, None]))):
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
    place = lambda: 2 * draw(2) - 1  # noqa: E731
    begin, heading = place(), place()
    last, crossed, points = begin, begin, []
    for _ in range(LINES):
        chance, smooth = draw(1), draw(1) < 0.6
        first = torch.where(chance < 0.75, last, torch.where(chance < 0.9, crossed, place()))
        end = torch.where(draw(1) < 0.25, begin, place())
        middle = torch.where(smooth, first + (0.3 + draw(1)) * heading, 1.3 * place())
        middle = torch.where(draw(1) < 0.2, (first + end) / 2, middle)  # a straight line
        ends = [one[:, None] for one in (first, middle, end)]
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


def objects(number, like, generator):
    """One object on a black ground, reaching through most of the image: one to five rounded blocks, some of them cut out, more
    often than not with their mirror images; the surface shaded, rough or striped. -> (number, C, H, W)."""
    channels, height, width = like.image_shape
    draw = lambda *size: torch.rand(number, *size, generator=generator)  # noqa: E731
    mirrored, softness = draw(1, 1) < 0.6, 0.03 + 0.05 * draw(1, 1)
    colour = lambda: 0.15 + 0.85 * draw(channels, 1, 1)  # noqa: E731
    blocks = _blocks(draw, colour, torch.randint(1, BLOCKS + 1, (number, 1, 1), generator=generator))

    # Once coarsely, to see how far it reaches; then so that it fills the image, as it is or a little stretched.
    whole = [one.expand(number, -1, -1) for one in _centred(COARSE, COARSE)]
    there = _assembled(blocks, *whole, mirrored, softness)[1] > 0.5
    spans = [_span(there.any(across), line.flatten(1)) for across, line in ((2, whole[0]), (1, whole[1]))]
    longest, stretched, filled = torch.maximum(spans[0][1], spans[1][1]), draw(1, 1), 0.7 + 0.3 * draw(1, 1)
    rows, columns = (
        middle + one * half**stretched * longest ** (1 - stretched) / filled
        for one, (middle, half) in zip(_centred(height, width), spans)
    )
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


def _span(there, line):
    """Middle and half length (N,1,1) of what is there on a line (N,L); of all of it where nothing is."""
    there = there | ~there.any(1, keepdim=True)
    low, high = line.masked_fill(~there, 2).amin(1), line.masked_fill(~there, -2).amax(1)
    return ((low + high) / 2)[:, None, None], ((high - low) / 2)[:, None, None].clamp_min(0.1)


def _surface(draw, height, width):
    """Brightness of surfaces (N,H,W): a slope, and some of the time coarse and fine roughness and stripes."""
    rows, columns = _centred(height, width)

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
    rows, columns = _centred(height, width)

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


def fractals(number, like, generator):
    """Attractors of random contracting affine maps, by the density of particles; each image stretched to [0,1].
    -> (number, C, H, W)."""
    channels, height, width = like.image_shape
    angle = torch.rand(number, MAPS, generator=generator) * 2 * math.pi
    scale = 0.4 + 0.45 * torch.rand(number, MAPS, 2, generator=generator)
    move = torch.rand(number, MAPS, 2, generator=generator) * 2 - 1
    turn = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], -1).view(number, MAPS, 2, 2)
    linear = turn * scale[..., None, :]
    points = torch.rand(number, PARTICLES, 2, generator=generator) * 2 - 1
    counts = torch.zeros(number, height * width)
    image = torch.arange(number)[:, None]
    for step in range(STEPS):
        chosen = torch.randint(0, MAPS, (number, PARTICLES), generator=generator)
        points = (linear[image, chosen] @ points[..., None])[..., 0] + move[image, chosen]
        if step >= STEPS // 2:
            low, high = points.amin(1, keepdim=True), points.amax(1, keepdim=True)
            place = ((points - low) / (high - low).clamp_min(1e-6) * 0.9999).clamp(0, 0.9999)
            index = (place[..., 0] * height).long() * width + (place[..., 1] * width).long()
            counts.scatter_add_(1, index, torch.ones_like(place[..., 0]))
    density = counts.sqrt()
    density = (density / density.amax(1, keepdim=True).clamp_min(1e-6)).view(number, 1, height, width)
    colour = 0.3 + 0.7 * torch.rand(number, channels, 1, 1, generator=generator)
    return density * (colour / colour.amax(1, keepdim=True))


KINDS = {"leaves": leaves, "strokes": strokes, "glyphs": glyphs, "objects": objects, "scenes": scenes, "fractals": fractals}


@dataclass
class Config(TransferConfig):
    """Dead leaves (overlapping discs), strokes (curves), glyphs (as a pen writes), objects (one in each image), scenes (objects
    on a ground, in the colours of photographs) or fractals (iterated function systems)."""

    kind: str = opt("strokes", "what is drawn", choices=tuple(KINDS))


class Method(Base):
    """Batch i depends on (seed, i) alone; drawn on the CPU, so that images do not depend on the device."""

    def batch(self, index: int) -> Batch:
        """Images, no targets."""
        generator = torch.Generator().manual_seed(self.seed_of(self.config.kind, index))
        return Batch(KINDS[self.config.kind](len(self.rows(index)), self.teacher.description, generator))

    def about(self) -> dict:
        """Says what is drawn."""
        return {"label": f"procedural ({self.config.kind})"}
