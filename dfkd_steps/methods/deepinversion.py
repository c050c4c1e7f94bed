"""DeepInversion: dreaming to distill (Yin et al., CVPR 2020, arXiv 1912.08795). See ``adi`` for the adaptive form."""

from dataclasses import dataclass

import torch

from ..models.tasks import TASKS
from ..schemas.fields import opt
from ..training import views
from .base import Batch, Method, TransferConfig, batch_size, samples
from .engines import objective, pixel_inversion


@dataclass
class DeepInversionConfig(pixel_inversion.PixelOptions, TransferConfig):
    """Pixels that the teacher calls by a given class, with the statistics of its BatchNorm layers and smooth."""

    entropy: float = objective.weight("entropy", 0.0)
    presence: float = objective.weight("presence", 0.0)
    n: int = samples(24000)
    batch: int = batch_size(256)
    view: str = opt("roll", "augmentation inside the losses, drawn anew each step", choices=tuple(views.VIEWS))
    precision: str = opt("fp32", "bf16 = autocast, where the device computes in it", choices=("fp32", "bf16"))


class DeepInversion(Method):
    """Batch i depends on (seed, i) alone; the samples of a batch share its statistics."""

    Config = DeepInversionConfig
    tasks = TASKS
    betas = (0.9, 0.999)

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.objective = objective.Objective(config, teacher)

    def batch(self, index: int) -> Batch:
        """One batch of pixels, classes in turn."""
        targets = torch.tensor(self.rows(index), device=self.device) % self.teacher.description.num_classes

        def loss_of(images):
            return self.objective(images, targets)

        return Batch(pixel_inversion.invert(self.config, self.teacher, len(targets), loss_of, self.betas, self.rng(index)))
