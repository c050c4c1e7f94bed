"""Procedural images as an arbitrary transfer set (Nayak et al., WACV 2021, arXiv 2011.09113): made here, no download."""

import math
from dataclasses import dataclass

import torch

from ..fields import opt
from .base import Batch, TransferConfig
from .base import Method as Base

LEAVES, SMALLEST = 60, 0.03  # discs of an image, and the least radius as a share of its side
CURVES, POINTS = 3, 24  # strokes of an image at most, and points that each is drawn by
MAPS, PARTICLES, STEPS = 3, 512, 24  # of an iterated function system


@dataclass
class Config(TransferConfig):
    """Dead leaves (overlapping discs), strokes (curves on a plain ground) or fractals (iterated function systems)."""

    kind: str = opt("strokes", "what is drawn", choices=("leaves", "strokes", "fractals"))


def _grid(height, width, like):
    """Pixel centres (H,W) as shares of the sides: vertical, horizontal."""
    rows = (torch.arange(height, device=like.device) + 0.5) / height
    columns = (torch.arange(width, device=like.device) + 0.5) / width
    return rows[:, None], columns[None, :]


def leaves(number, like, generator):
    """Dead leaves: discs of random colour, radii with density r^-3, each over the ones before. -> (number, C, H, W)."""
    channels, height, width = like.image_shape
    draw = lambda *size: torch.rand(number, *size, generator=generator)  # noqa: E731 (a name for one long call)
    images = draw(channels, 1, 1).expand(-1, -1, height, width).clone()
    rows, columns = _grid(height, width, images)
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
    rows, columns = _grid(height, width, images)
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


KINDS = {"leaves": leaves, "strokes": strokes, "fractals": fractals}


class Method(Base):
    """Batch i depends on (seed, i) alone; drawn on the CPU, so that images do not depend on the device."""

    def batch(self, index: int) -> Batch:
        """Images, no targets."""
        generator = torch.Generator().manual_seed(self.seed_of(self.config.kind, index))
        return Batch(KINDS[self.config.kind](len(self.rows(index)), self.teacher.description, generator))

    def about(self) -> dict:
        """Says what is drawn."""
        return {"label": f"procedural ({self.config.kind})"}
