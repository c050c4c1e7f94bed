"""PSAQ-ViT: images of vision transformers by the similarity of patches (Li et al., ECCV 2022, arXiv 2203.02250)."""

import torch

from ..schemas.transfer.psaq import PSAQConfig
from .base import Batch, Method
from .engines import objective, pixel_inversion


class PSAQ(Method):
    """Batch i depends on (seed, i) alone; the samples of a batch share its roughness."""

    Config = PSAQConfig
    betas = (0.5, 0.9)

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.objective = objective.Objective(config, teacher)

    def batch(self, index: int) -> Batch:
        """One batch of pixels, of random classes."""
        rng = self.rng(index)
        classes = self.teacher.description.num_classes
        targets = torch.randint(0, classes, (len(self.rows(index)),), generator=rng, device=self.device)

        def loss_of(images):
            return self.objective(images, targets)

        return Batch(pixel_inversion.invert(self.config, self.teacher, len(targets), loss_of, self.betas, rng))
