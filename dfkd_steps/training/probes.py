"""Probe images: drawn here, of kinds that a student did not learn from, to compare it with its teacher without any data."""

from collections.abc import Iterator

import torch

from ..procedural import glyphs, noise, objects, scenes, strokes, textures
from ..procedural.drawing import pieces
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


def draw(like, learnt_from=(), number: int = PER_KIND) -> Iterator[tuple[str, torch.Tensor]]:
    """Each kind with its images (number,C,H,W) uint8 for a network's ``Description``; the same for every student of one teacher.

    One kind is drawn after the other, and held no longer than by whoever takes it; the mosaics are held all the time.

    learnt_from: the modules that drew what the student learnt from ("procedural.glyphs"): all kinds that one of them draws are
    left out. Mosaics, whose quarters are of four kinds, are no method's images and always there, at the end.
    """
    mosaics = torch.empty(number, *like.image_shape, dtype=torch.uint8)
    for place, (kind, function) in enumerate(DRAW.items()):
        images = _drawn(function, number, like, make_rng("cpu", "probes", kind))
        put_in(mosaics, images, place, len(DRAW))
        if function.__module__.partition(".")[2] not in learnt_from:
            yield kind, images
        del images  # before the next ones are drawn
    yield MOSAIC, mosaics


def _drawn(function, number, like, rng):
    """Images as uint8: a quarter of the memory, and what a network in use is given."""
    images = torch.empty(number, *like.image_shape, dtype=torch.uint8)
    for rows, part in pieces(function, number, like, rng):
        images[rows] = part.mul_(255).round_()
    return images


def put_in(mosaics, images, place: int, kinds: int):
    """Put the quarters of images (N,C,H,W) of the kind at ``place`` among ``kinds`` into mosaics (N,C,H,W), where they belong."""
    rows = torch.arange(len(mosaics))
    height, width = (side // 2 for side in mosaics.shape[2:])
    places = [(a, b) for a in (slice(None, height), slice(height, None)) for b in (slice(None, width), slice(width, None))]
    for quarter, (a, b) in enumerate(places):
        # Of image i the quarters are of kinds i, i+2, i+4, i+6: four different ones wherever there are seven kinds or more.
        chosen = (rows + 2 * quarter) % kinds == place
        mosaics[chosen, :, a, b] = images[chosen][:, :, a, b]
