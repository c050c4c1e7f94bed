"""Pixel coordinates, and where in them the drawn part of an image lies."""

import torch


def grid(height, width):
    """Pixel centres as shares of the sides: vertical (H,1), horizontal (1,W)."""
    return ((torch.arange(height) + 0.5) / height)[:, None], ((torch.arange(width) + 0.5) / width)[None, :]


def centred(height, width):
    """The same from -1 to 1."""
    return [2 * axis - 1 for axis in grid(height, width)]


def span(there, line):
    """Middle and half length (N,1,1) of what is there on a line (N,L); of all of it where nothing is."""
    there = there | ~there.any(1, keepdim=True)
    low, high = line.masked_fill(~there, 2).amin(1), line.masked_fill(~there, -2).amax(1)
    return ((low + high) / 2)[:, None, None], ((high - low) / 2)[:, None, None].clamp_min(0.1)


def reach(spans, stretched):
    """Half lengths (N,1,1) by which both spans are to be divided: the longer one's for both where ``stretched`` is 0, so that the
    form stays, each its own where it is 1."""
    longest = torch.maximum(*(half for _, half in spans))
    return [half**stretched * longest ** (1 - stretched) for _, half in spans]
