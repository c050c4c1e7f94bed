"""Noise as an arbitrary transfer set (Nayak et al., WACV 2021, arXiv 2011.09113)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .. import runtime
from ..fields import opt
from .base import Batch, TransferConfig
from .base import Method as Base


@dataclass
class Config(TransferConfig):
    """Images of noise, nothing optimised: uniform, Gaussian (the teacher's mean and std), or smooth (low-pass)."""

    kind: str = opt("uniform", "distribution of the pixels", choices=("uniform", "gaussian", "smooth"))


def uniform(number, shape, generator):
    """Each value uniform in [0,1]. -> (number, *shape)."""
    return torch.rand(number, *shape, generator=generator)


def gaussian(number, shape, generator, mean, std):
    """N(mean, std) per channel, clipped to [0,1]: white in the teacher's normalised space. -> (number, *shape)."""
    drawn = torch.randn(number, *shape, generator=generator)
    return (drawn * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)).clamp(0, 1)


def smooth(number, shape, generator):
    """Sum over scales of coarse random grids, bicubically enlarged; each image stretched to [0,1]. -> (number, *shape)."""
    channels, height, width = shape
    total = torch.zeros(number, *shape)
    for cells in (2, 4, 8):
        grid = torch.randn(number, channels, cells, cells, generator=generator)
        weight = torch.rand(number, 1, 1, 1, generator=generator)
        total += weight * F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
    low, high = total.amin((1, 2, 3), keepdim=True), total.amax((1, 2, 3), keepdim=True)
    return (total - low) / (high - low).clamp_min(1e-6)


class Method(Base):
    """Batch i depends on (seed, i) alone."""

    def batch(self, index: int) -> Batch:
        """Noise images, no targets."""
        number, described = len(self.rows(index)), self.teacher.description
        generator = runtime.generator("cpu", "noise", self.config.kind, self.config.seed, index)
        if self.config.kind == "uniform":
            return Batch(uniform(number, described.image_shape, generator))
        if self.config.kind == "gaussian":
            return Batch(gaussian(number, described.image_shape, generator, described.mean, described.std))
        return Batch(smooth(number, described.image_shape, generator))

    def about(self) -> dict:
        """Says which noise."""
        return {"label": f"{self.config.kind} noise"}
