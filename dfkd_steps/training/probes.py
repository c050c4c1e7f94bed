"""Probe images: drawn here, of kinds that a student did not learn from, to compare it with its teacher without any data."""

import torch

from ..procedural import glyphs, noise, objects, scenes, strokes, textures
from ..procedural.drawing import in_pieces
from ..runtime.seeds import make_rng

PER_KIND = 200
MOSAIC = "mosaic"
DRAW = {
    "uniform": noise.uniform,
    "gaussian": noise.gaussian,
    "smooth": noise.smooth,
    "leaves": textures.leaves,
    "fractals": textures.fractals,
    "strokes": strokes.strokes,
    "glyphs": glyphs.glyphs,
    "objects": objects.objects,
    "scenes": scenes.scenes,
}


def draw(like, learnt_from=(), number: int = PER_KIND) -> dict[str, torch.Tensor]:
    """Kind -> images (number,C,H,W) uint8 for a network's ``Description``; the same for every student of one teacher.

    learnt_from: the modules that drew what the student learnt from ("procedural.glyphs"): all kinds that one of them draws are
    left out. Mosaics, whose quarters are of four kinds, are no method's images and always there.
    """
    drawn = {kind: _drawn(function, number, like, make_rng("cpu", "probes", kind)) for kind, function in DRAW.items()}
    quarters = mosaic(list(drawn.values()))
    modules = {kind: function.__module__.partition(".")[2] for kind, function in DRAW.items()}
    return {**{kind: images for kind, images in drawn.items() if modules[kind] not in learnt_from}, MOSAIC: quarters}


def _drawn(function, number, like, rng):
    """Images as uint8: a quarter of the memory, and what a network in use is given."""
    return in_pieces(function, number, like, rng).mul_(255).round_().to(torch.uint8)


def mosaic(parts: list[torch.Tensor]) -> torch.Tensor:
    """Images (N,C,H,W) whose quarters are those of images of four kinds; ``parts``: images (N,C,H,W) of each kind."""
    rows, mixed = torch.arange(len(parts[0])), parts[0].clone()
    height, width = (side // 2 for side in mixed.shape[2:])
    places = [(a, b) for a in (slice(None, height), slice(height, None)) for b in (slice(None, width), slice(width, None))]
    for quarter, (a, b) in enumerate(places):
        # Of image i the quarters are of kinds i, i+2, i+4, i+6: four different ones wherever there are seven kinds or more.
        kinds = (rows + 2 * quarter) % len(parts)
        for kind, images in enumerate(parts):
            mixed[kinds == kind, :, a, b] = images[kinds == kind][:, :, a, b]
    return mixed
