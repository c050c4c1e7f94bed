"""The config of the method ZSKD (``methods.zskd``)."""

from dataclasses import dataclass

from ..fields import opt
from .options import soft_targets


@dataclass
class ZSKDConfig(soft_targets.SoftTargetOptions):
    """Data impressions: images whose softened teacher output matches a target drawn from a Dirichlet distribution."""

    betas: list[float] = opt(
        [1.0, 0.1], "scales of the Dirichlet concentration, each for an equal share of the samples", above=0, hi=100
    )

    def check(self):
        return None if self.betas else "betas is empty; give at least one scale"
