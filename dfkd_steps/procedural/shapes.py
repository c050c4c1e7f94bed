"""Simple shapes on grounds, with the class of each pixel: a small segmentation task with exact label maps."""

import math

import torch
import torch.nn.functional as F

from .coordinates import grid

CLASSES = ("ground", "disc", "rectangle", "stripes")
THINGS = 4  # in an image at most


def scenes_with_maps(number: int, height: int, width: int, rng):
    """One to four things on a ground that is rough and lighter on one side; colours tell nothing of classes, forms do.
    -> images (number,3,H,W) in [0,1], maps (number,H,W) uint8 of ``CLASSES``."""

    def draw(*size):
        return torch.rand(number, *size, generator=rng)

    rows, columns = (axis * side / max(height, width) for axis, side in zip(grid(height, width), (height, width)))
    slope = 0.5 * ((draw(1, 1) - 0.5) * rows + (draw(1, 1) - 0.5) * columns)
    coarse = F.interpolate(draw(3, 6, 8), (height, width), mode="bilinear", align_corners=False)
    images = 0.15 + 0.7 * draw(3, 1, 1) + slope[:, None] + 0.25 * (coarse - 0.5)
    maps = torch.zeros(number, height, width, dtype=torch.uint8)
    count = torch.randint(1, THINGS + 1, (number, 1, 1), generator=rng)
    for place in range(THINGS):
        kind = torch.randint(1, len(CLASSES), (number, 1, 1), generator=rng)
        # Coordinates of the thing: its middle, turned by an angle, in units of its size.
        angle, size = 2 * math.pi * draw(1, 1), 0.1 + 0.16 * draw(1, 1)
        down = (rows - draw(1, 1) * height / max(height, width)) / size
        right = (columns - draw(1, 1) * width / max(height, width)) / size
        along, across = down * angle.cos() + right * angle.sin(), right * angle.cos() - down * angle.sin()
        disc = along.square() + across.square() < 1
        rectangle = (along.abs() < 1) & (across.abs() < 0.35 + 0.5 * draw(1, 1))
        inside = torch.where(kind == 1, disc, rectangle) & (place < count)
        # Stripes are rectangles of two colours, in bars.
        bars = (kind == 3) & ((4.5 * along).sin() > 0)
        colour, other = draw(3, 1, 1), draw(3, 1, 1)
        drawn = torch.where(bars[:, None], (colour + 0.5 + 0.3 * (other - 0.5)) % 1, colour)
        images = torch.where(inside[:, None], drawn, images)
        maps = torch.where(inside, kind.to(torch.uint8), maps)
    images = images + 0.04 * torch.randn(images.shape, generator=rng)
    return images.clamp(0, 1), maps
