"""PSAQ-ViT: images of vision transformers by the similarity of patches (Li et al., ECCV 2022, arXiv 2203.02250)."""

from dataclasses import dataclass

import torch

from ..schemas.fields import opt
from ..training import views
from .base import Batch, Method, TransferConfig, batch_size, samples
from .engines import objective, pixel_inversion
from .engines.schedules import MEANING


@dataclass
class PSAQConfig(TransferConfig):
    """Pixels that the teacher calls by a given class and whose patches its attention tells apart; needs no BatchNorm."""

    n: int = samples(24000)
    batch: int = batch_size(32)
    onehot: float = objective.weight("onehot", 1.0)
    patches: float = objective.weight("patches", 1.0)
    # Published: 0.05 of the distance of the total variation of a batch of 32 images of 224x224, in units of a std of 0.226, to a
    # number from 2,500 to 3,000. As the roughness of a pixel in [0,1], the middle of these is 0.0708 and its weight 1,942.
    roughness: float = objective.weight("roughness", 1942.0)
    smooth_to: float = opt(0.0708, "the roughness that images are brought to: of neighbouring pixels in [0,1]", lo=0, hi=1)
    steps: int = opt(1000, "Adam steps on a batch of pixels", lo=1)
    lr: float = opt(0.045, "peak Adam step on pixels in [0,1] (0.2 in units of a std of 0.226)", above=0, hi=100)
    schedule: str = opt("cycles", f"of the step, over the steps of a batch: {MEANING}", choices=("constant", "cosine", "cycles"))
    view: str = opt("roll-flip", "augmentation inside the losses, drawn anew each step", choices=tuple(views.VIEWS))
    precision: str = opt("fp32", "bf16 = autocast, where the device computes in it", choices=("fp32", "bf16"))


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
