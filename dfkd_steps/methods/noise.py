"""Noise as an arbitrary transfer set (Nayak et al., WACV 2021, arXiv 2011.09113)."""

from dataclasses import dataclass

import torch

from ..models.tasks import TASKS
from ..procedural import registry
from ..schemas.fields import opt
from .base import Batch, Method, TransferConfig, batch_size, samples


@dataclass
class NoiseConfig(TransferConfig):
    """Images of noise, nothing optimised: uniform, Gaussian (the teacher's mean and std), or smooth (low-pass)."""

    n: int = samples(24000)
    batch: int = batch_size(500)
    kind: str = opt("uniform", "distribution of the pixels", choices=registry.NOISE, code=registry.module_of)


class Noise(Method):
    """Batch i depends on (seed, i) alone."""

    Config = NoiseConfig
    tasks = TASKS

    def batch(self, index: int) -> Batch:
        """Noise images, no targets."""
        rng = torch.Generator().manual_seed(self.seed_of(self.config.kind, index))
        return Batch(registry.load(self.config.kind)(len(self.rows(index)), self.teacher.description, rng))

    def about(self) -> dict:
        """Says which noise."""
        return {"label": f"{self.config.kind} noise"}
