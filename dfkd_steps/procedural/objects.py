"""Objects: one thing on a black ground, for teachers of products and clothing."""

import math

import torch
import torch.nn.functional as F

from .blocks import BLOCKS, assemble, draw_blocks
from .coordinates import centred, reach, span

COARSE = 48  # the side at which the extent of an object is measured


def objects(number, like, rng):
    """One object on a black ground, reaching through most of the image: one to five rounded blocks, some of them cut out, more
    often than not with their mirror images; the surface shaded, rough or striped. -> (number, C, H, W)."""
    channels, height, width = like.image_shape

    def draw(*size):
        return torch.rand(number, *size, generator=rng)

    def colour():
        return 0.15 + 0.85 * draw(channels, 1, 1)

    mirrored, softness = draw(1, 1) < 0.6, 0.03 + 0.05 * draw(1, 1)
    count = torch.randint(1, BLOCKS + 1, (number,), generator=rng)
    blocks = draw_blocks(draw, colour)

    # Once coarsely, to see how far it reaches; then so that it fills the image, as it is or a little stretched.
    whole = [axis.expand(number, -1, -1) for axis in centred(COARSE, COARSE)]
    there = assemble(blocks, count, *whole, mirrored, softness)[1] > 0.5
    spans = [span(there.any(across), line.flatten(1)) for across, line in ((2, whole[0]), (1, whole[1]))]
    halves, filled = reach(spans, draw(1, 1)), 0.7 + 0.3 * draw(1, 1)
    rows, columns = (middle + axis * half / filled for axis, (middle, _), half in zip(centred(height, width), spans, halves))
    colours, cover = assemble(blocks, count, rows, columns, mirrored, softness)
    return (colours * (cover * _surface(draw, height, width))[:, None]).clamp(0, 1)


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
