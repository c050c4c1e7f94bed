"""Adaptive DeepInversion (Yin et al., CVPR 2020, arXiv 1912.08795, sec. 3.3)."""

from dataclasses import dataclass

from . import deepinversion
from .engines import objective
from .engines.model_inversion import Inversion, InversionConfig


@dataclass
class Config(InversionConfig, deepinversion.Pixels):
    """DeepInversion whose images also make the student disagree; the student learns between the batches."""

    jsd: float = objective.weight("jsd", 1.0)


class Method(Inversion):
    """One batch of pixels a round."""

    def invert(self, index: int, rng):
        """A batch of pixels for random labels."""

        def loss_of(images, wanted):
            return objective.total(self.terms(images, wanted, index))

        return deepinversion.invert(self, self.wanted(rng), rng, loss_of)
