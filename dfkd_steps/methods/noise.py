"""Noise as an arbitrary transfer set (Nayak et al., WACV 2021, arXiv 2011.09113)."""

import torch

from ..models import answering_network
from ..models.statistics import CURRENT
from ..procedural import drawing
from ..runtime import memory
from ..runtime.errors import UserError
from ..schemas.transfer.noise import NoiseConfig
from .base import Batch, Method


class Noise(Method):
    """Batch i depends on (seed, i) alone."""

    Config = NoiseConfig

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        if config.statistics == CURRENT:
            if min(config.batch, config.n) > (most := memory.passed(teacher.description.image_shape)):
                raise UserError(
                    f"transfer: noise: batch: {config.batch} images of this size do not fit in memory at once, but statistics "
                    f"are computed over a whole batch; set batch: {most} or less, or a larger DFKD_MEMORY"
                )
            try:
                self.answering = answering_network.with_current_statistics(teacher)
            except UserError as error:
                raise UserError(f"transfer: noise: {error}; or set statistics: running") from None

    def batch(self, index: int) -> Batch:
        """Noise images, no targets."""
        rng = torch.Generator().manual_seed(self.seed_of(self.config.kind, index))
        return Batch(drawing.draw(self.config.kind, len(self.rows(index)), self.teacher.description, rng))

    def about(self) -> dict:
        """Says which noise, and how the teacher answers to it."""
        if self.config.statistics != CURRENT:
            return {"label": f"{self.config.kind} noise"}
        return {"label": f"{self.config.kind} noise, current statistics", "teacher_statistics": CURRENT}
