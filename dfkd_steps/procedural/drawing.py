"""Draws images of a kind: ``draw(kind, number, like, rng)`` gives images (number,C,H,W) in [0,1].

``like``: a network's ``Description``, whose shape and normalisation they have. ``rng`` is on the CPU, so that images do not
depend on the device.
"""

import torch

from ..runtime import memory
from . import registry


def draw(kind: str, number: int, like, rng) -> torch.Tensor:
    """Images (number,C,H,W) of a kind, no more at once than their size allows: each takes many times its own memory."""
    return in_pieces(registry.load(kind), number, like, rng)


def in_pieces(function, number: int, like, rng) -> torch.Tensor:
    """``function(number, like, rng)``, a piece after the other from one random generator."""
    if number <= memory.drawn(like.image_shape):
        return function(number, like, rng)
    images = torch.empty(number, *like.image_shape)
    for rows, part in pieces(function, number, like, rng):
        images[rows] = part
    return images


def pieces(function, number: int, like, rng):
    """The pieces of ``in_pieces``: each with the rows (a slice) that it is of, and drawn when it is taken."""
    most = memory.drawn(like.image_shape)
    for start in range(0, number, most):
        rows = slice(start, min(start + most, number))
        yield rows, function(rows.stop - start, like, rng)
