"""Noise as an arbitrary transfer set (Nayak et al., WACV 2021, arXiv 2011.09113)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..fields import opt
from .base import Batch, TransferConfig
from .base import Method as Base


def uniform(number, like, generator):
    """Each value uniform in [0,1], for a network's ``Description``. -> (number, C, H, W)."""
    return torch.rand(number, *like.image_shape, generator=generator)


def gaussian(number, like, generator):
    """N(mean, std) per channel, clipped to [0,1]: white in the teacher's normalised space. -> (number, C, H, W)."""
    drawn = torch.randn(number, *like.image_shape, generator=generator)
    return (drawn * torch.tensor(like.std).view(-1, 1, 1) + torch.tensor(like.mean).view(-1, 1, 1)).clamp(0, 1)


def smooth(number, like, generator):
    """Sum over scales of coarse random grids, bicubically enlarged; each image stretched to [0,1].
    -> (number, C, H, W)."""
    channels, height, width = like.image_shape
    total = torch.zeros(number, channels, height, width)
    for cells in (2, 4, 8):
        grid = torch.randn(number, channels, cells, cells, generator=generator)
        weight = torch.rand(number, 1, 1, 1, generator=generator)
        total += weight * F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
    low, high = total.amin((1, 2, 3), keepdim=True), total.amax((1, 2, 3), keepdim=True)
    return (total - low) / (high - low).clamp_min(1e-6)


KINDS = {"uniform": uniform, "gaussian": gaussian, "smooth": smooth}


@dataclass
class Config(TransferConfig):
    """Images of noise, nothing optimised: uniform, Gaussian (the teacher's mean and std), or smooth (low-pass)."""

    kind: str = opt("uniform", "distribution of the pixels", choices=tuple(KINDS))


class Method(Base):
    """Batch i depends on (seed, i) alone."""

    def batch(self, index: int) -> Batch:
        """Noise images, no targets."""
        generator = torch.Generator().manual_seed(self.seed_of(self.config.kind, index))
        return Batch(KINDS[self.config.kind](len(self.rows(index)), self.teacher.description, generator))

    def about(self) -> dict:
        """Says which noise."""
        return {"label": f"{self.config.kind} noise"}
