"""DeepInversion: dreaming to distill (Yin et al., CVPR 2020, arXiv 1912.08795). See ``adi`` for the adaptive form."""

import torch

from ..schemas.transfer.deepinversion import DeepInversionConfig
from .base import Batch, Method
from .engines import objective, pixel_inversion


class DeepInversion(Method):
    """Batch i depends on (seed, i) alone; the samples of a batch share its statistics."""

    Config = DeepInversionConfig

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.objective = objective.Objective(config, teacher)
        pixel_inversion.require_coarse(config, teacher)
        self.betas = (config.beta1, config.beta2)

    def batch(self, index: int) -> Batch:
        """One batch of pixels, classes in turn."""
        targets = torch.tensor(self.rows(index), device=self.device) % self.teacher.description.num_classes

        def loss_of(images):
            return self.objective(images, targets)

        return Batch(pixel_inversion.invert(self.config, self.teacher, len(targets), loss_of, self.betas, self.rng(index)))
