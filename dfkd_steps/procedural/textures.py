"""Images that are textures or shapes all over: dead leaves and fractals."""

import math

import torch

from .coordinates import grid

LEAVES, SMALLEST = 60, 0.03  # discs of an image, and the least radius as a share of its side
MAPS, PARTICLES, STEPS = 3, 512, 24  # of an iterated function system


def leaves(number, like, rng):
    """Dead leaves: discs of random colour, radii with density r^-3, each over the ones before. -> (number, C, H, W)."""
    channels, height, width = like.image_shape

    def draw(*size):
        return torch.rand(number, *size, generator=rng)

    images = draw(channels, 1, 1).expand(-1, -1, height, width).clone()
    rows, columns = grid(height, width)
    for _ in range(LEAVES):
        # Inverse of the distribution function of r^-3 between the smallest radius and half a side.
        radius = (SMALLEST**-2 - draw(1, 1) * (SMALLEST**-2 - 0.5**-2)) ** -0.5
        inside = (rows - draw(1, 1)).square() + (columns - draw(1, 1)).square() < radius.square()
        images = torch.where(inside[:, None], draw(channels, 1, 1), images)
    return images


def fractals(number, like, rng):
    """Attractors of random contracting affine maps, by the density of particles; each image stretched to [0,1].
    -> (number, C, H, W)."""
    channels, height, width = like.image_shape
    angle = torch.rand(number, MAPS, generator=rng) * 2 * math.pi
    scale = 0.4 + 0.45 * torch.rand(number, MAPS, 2, generator=rng)
    move = torch.rand(number, MAPS, 2, generator=rng) * 2 - 1
    turn = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], -1).view(number, MAPS, 2, 2)
    linear = turn * scale[..., None, :]
    points = torch.rand(number, PARTICLES, 2, generator=rng) * 2 - 1
    counts = torch.zeros(number, height * width)
    image = torch.arange(number)[:, None]
    for step in range(STEPS):
        chosen = torch.randint(0, MAPS, (number, PARTICLES), generator=rng)
        points = (linear[image, chosen] @ points[..., None])[..., 0] + move[image, chosen]
        if step >= STEPS // 2:
            low, high = points.amin(1, keepdim=True), points.amax(1, keepdim=True)
            place = ((points - low) / (high - low).clamp_min(1e-6) * 0.9999).clamp(0, 0.9999)
            index = (place[..., 0] * height).long() * width + (place[..., 1] * width).long()
            counts.scatter_add_(1, index, torch.ones_like(place[..., 0]))
    density = counts.sqrt()
    density = (density / density.amax(1, keepdim=True).clamp_min(1e-6)).view(number, 1, height, width)
    colour = 0.3 + 0.7 * torch.rand(number, channels, 1, 1, generator=rng)
    return density * (colour / colour.amax(1, keepdim=True))
