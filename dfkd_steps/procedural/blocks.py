"""Rounded blocks, the parts of which objects and scenes are assembled."""

import math

import torch

BLOCKS = 5  # rounded blocks of an object at most


def draw_blocks(draw, new_colour):
    """What the blocks of objects are: middle and half sides (N,2), angle (N,1,1), how square (N,1,1), colour (N,C,1,1) and
    whether it is cut out (N,1,1). Each has its middle somewhere in the one before."""
    blocks, middle, sides, colour = [], 0.6 * (draw(2) - 0.5), 0.25 + 0.6 * draw(2), new_colour()
    for place in range(BLOCKS):
        angle = torch.where(draw(1, 1) < 0.4, 0.0, (draw(1, 1) - 0.5) * math.pi)
        cut = (draw(1, 1) < 0.2) & (place > 0)
        blocks.append((middle, sides, angle, 2 * 4 ** draw(1, 1), colour, cut))
        middle = (middle + 2 * (draw(2) - 0.5) * sides).clamp(-0.9, 0.9)
        sides = 0.08 + 0.6 * draw(2) ** 1.5
        colour = torch.where(draw(1, 1, 1) < 0.5, new_colour(), colour)
    return blocks


def assemble(blocks, count, rows, columns, mirrored, softness):
    """Colours (N,C,H,W) and cover (N,H,W) of objects at vertical and horizontal places (N,H,W), (N,H,1) or (N,1,W), from -1 to 1
    and beyond. count (N): each has so many of the blocks, the first ones."""
    # Objects with more blocks first, so that those that still have one are a slice: half of the work is left out.
    order = count.argsort(descending=True, stable=True)
    rows, columns, mirrored, softness = rows[order], columns[order], mirrored[order], softness[order]

    def fold(places):
        return torch.where(mirrored[: len(places)], places.abs(), places)

    columns = fold(columns)
    colours = torch.zeros(len(order), blocks[0][4].shape[1], rows.shape[1], columns.shape[2])
    cover = torch.zeros_like(colours[:, 0])
    for place, block in enumerate(blocks):
        number = int((count > place).sum())
        middle, sides, angle, power, colour, cut = (part[order[:number]] for part in block)
        down, right = rows[:number] - middle[:, :1, None], columns[:number] - fold(middle[:, 1:, None])
        along = (down * angle.cos() + right * angle.sin()) / sides[:, :1, None]
        across = (right * angle.cos() - down * angle.sin()) / sides[:, 1:, None]
        # A superellipse, from a disc to nearly a rectangle.
        distance = (along.abs() ** power + across.abs() ** power) ** (1 / power)
        inside = ((1 - distance) * sides.amin(1)[:, None, None] / softness[:number] + 0.5).clamp(0, 1)
        covered = cover[:number]
        left = covered * (1 - inside)
        cut = cut & (left.amax((1, 2), keepdim=True) > 0.5)  # never all that there is
        colours[:number].lerp_(colour, (inside * ~cut)[:, None])
        cover[:number] = torch.where(cut, left, torch.maximum(covered, inside))
    back = order.argsort()
    return colours[back], cover[back]
