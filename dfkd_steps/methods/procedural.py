"""Procedural images as an arbitrary transfer set (Nayak et al., WACV 2021, arXiv 2011.09113): made here, no download."""

import torch

from ..procedural import drawing
from ..schemas.transfer.procedural import ProceduralConfig
from .base import Batch, Method


class Procedural(Method):
    """Batch i depends on (seed, i) alone; drawn on the CPU, so that images do not depend on the device."""

    Config = ProceduralConfig

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.drawn = (config.kind,)

    def batch(self, index: int) -> Batch:
        """Images, no targets."""
        rng = torch.Generator().manual_seed(self.seed_of(self.config.kind, index))
        return Batch(drawing.draw(self.config.kind, len(self.rows(index)), self.teacher.description, rng))

    def about(self) -> dict:
        """Says what is drawn."""
        return {"label": f"procedural ({self.config.kind})"}
