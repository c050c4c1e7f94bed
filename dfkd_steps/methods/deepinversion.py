"""DeepInversion: dreaming to distill (Yin et al., CVPR 2020, arXiv 1912.08795). See ``adi`` for the adaptive form."""

from dataclasses import dataclass

import torch

from ..schemas.fields import opt
from ..training import views
from .base import Batch, Method, TransferConfig
from .engines import objective, pixel_optimization


@dataclass
class Pixels(TransferConfig):
    """The fields that DeepInversion and its adaptive form share."""

    onehot: float = objective.weight("onehot", 1.0)
    bn: float = objective.weight("bn", 10.0)
    # Published is 2.5e-5 of the norm over a batch of 256 (16 times that by image) of images in units of a std of 0.25.
    tv: float = objective.weight("tv", 1.6e-3)
    l2: float = objective.weight("l2", 0.0)
    batch: int = opt(256, "samples that are made together", lo=1)
    steps: int = opt(2000, "Adam steps on a batch of pixels", lo=1)
    lr: float = opt(0.025, "peak Adam step on pixels in [0,1] (0.1 in units of a std of 0.25)", above=0, hi=100)
    view: str = opt("flip-crop", "view that the teacher is asked on, drawn anew each step", choices=tuple(views.VIEWS))
    precision: str = opt("fp32", "bf16 = autocast", choices=("fp32", "bf16"))


@dataclass
class Config(Pixels):
    """Pixels that the teacher calls by a given class, with the statistics of its BatchNorm layers and smooth."""


def invert(method, wanted, rng, loss_of):
    """Pixels (N,C,H,W) for labels (N), moved from normal noise (in the teacher's scale) down ``loss_of(images, labels)``."""
    config, teacher = method.config, method.teacher
    noise = torch.randn(len(wanted), *teacher.description.image_shape, generator=rng, device=method.device)
    start = (noise * teacher.std + teacher.mean).clamp(0, 1)
    return pixel_optimization.optimize_batch(
        start, lambda images: loss_of(views.view(config.view, images, rng), wanted), steps=config.steps, lr=config.lr
    )


class Method(Method):
    """Batch i depends on (seed, i) alone; the samples of a batch share its statistics."""

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.objective = objective.Objective(config, teacher)

    def batch(self, index: int) -> Batch:
        """One batch of pixels, classes in turn."""
        wanted = torch.tensor(self.rows(index), device=self.device) % self.teacher.description.num_classes
        return Batch(invert(self, wanted, self.rng(index), self.objective))
