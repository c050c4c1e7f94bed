"""The kinds of images drawn here: name -> module and function, imported when asked for.

``draw(kind, number, like, rng)`` gives images (number,C,H,W) in [0,1] of the shape and the normalisation of ``like``, a
network's ``Description``; ``rng`` is on the CPU, so that images do not depend on the device.
"""

import importlib

import torch

from ..runtime import memory

REGISTRY = {
    "uniform": "noise",
    "gaussian": "noise",
    "smooth": "noise",
    "leaves": "textures",
    "fractals": "textures",
    "strokes": "strokes",
    "glyphs": "glyphs",
    "objects": "objects",
    "scenes": "scenes",
}
NOISE = tuple(kind for kind, module in REGISTRY.items() if module == "noise")
PROCEDURAL = tuple(kind for kind, module in REGISTRY.items() if module != "noise")


def module_of(kind: str) -> str:
    """The module (below dfkd_steps) that draws a kind."""
    return f"procedural.{REGISTRY[kind]}"


def load(kind: str):
    """The function of a kind: (number, like, rng) -> images."""
    return getattr(importlib.import_module(f"dfkd_steps.{module_of(kind)}"), kind)


def draw(kind: str, number: int, like, rng) -> torch.Tensor:
    """Images (number,C,H,W) of a kind, no more at once than their size allows: each takes many times its own memory."""
    return in_pieces(load(kind), number, like, rng)


def in_pieces(function, number: int, like, rng) -> torch.Tensor:
    """``function(number, like, rng)``, a piece after the other from one random generator."""
    rows = memory.drawn(like.image_shape)
    if number <= rows:
        return function(number, like, rng)
    images = torch.empty(number, *like.image_shape)
    for start in range(0, number, rows):
        stop = min(start + rows, number)
        images[start:stop] = function(stop - start, like, rng)
    return images
