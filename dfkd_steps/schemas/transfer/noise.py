"""The config of the method Noise (``methods.noise``)."""

from dataclasses import dataclass

from ...models.statistics import CURRENT, RUNNING
from ...procedural import registry
from ..fields import opt
from .base import TransferConfig, batch_size, samples


@dataclass
class NoiseConfig(TransferConfig):
    """Noise images, without optimisation: uniform, Gaussian (the teacher's mean and std), or smooth (low-pass)."""

    n: int = samples(24000)
    batch: int = batch_size(500)
    kind: str = opt("uniform", "distribution of the pixels", choices=registry.NOISE, code=registry.module_of)
    statistics: str = opt(
        RUNNING, "BatchNorm statistics for the teacher's logits: the stored ones, or those of the batch (NormShift)",
        choices=(RUNNING, CURRENT),
    )  # fmt: skip

    def check(self):
        rest = self.n % self.batch
        if self.statistics == CURRENT and 0 < rest < min(self.n, 32):
            return f"n: the last batch has {rest} images, too few for batch statistics; use a multiple of {self.batch}"
        return None
