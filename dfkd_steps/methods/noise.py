"""Noise as an arbitrary transfer set (Nayak et al., WACV 2021, arXiv 2011.09113)."""

from dataclasses import dataclass

import torch

from ..models import frozen
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
    statistics: str = opt(
        "running", "BatchNorm statistics of the teacher that answers: those that it keeps, or those of the batch (NormShift)",
        choices=("running", frozen.CURRENT),
    )  # fmt: skip

    def check(self):
        rest = self.n % self.batch
        if self.statistics == frozen.CURRENT and 0 < rest < min(self.n, 32):
            return f"n: the last batch has {rest} images, too few for statistics of their own; take a multiple of {self.batch}"
        return None


class Noise(Method):
    """Batch i depends on (seed, i) alone."""

    Config = NoiseConfig
    tasks = TASKS

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        if config.statistics == frozen.CURRENT:
            self.answering = frozen.with_current_statistics(teacher)

    def batch(self, index: int) -> Batch:
        """Noise images, no targets."""
        rng = torch.Generator().manual_seed(self.seed_of(self.config.kind, index))
        return Batch(registry.draw(self.config.kind, len(self.rows(index)), self.teacher.description, rng))

    def about(self) -> dict:
        """Says which noise, and how the teacher answers to it."""
        if self.config.statistics != frozen.CURRENT:
            return {"label": f"{self.config.kind} noise"}
        return {"label": f"{self.config.kind} noise, current statistics", "teacher_statistics": frozen.CURRENT}
