"""The config of the method Noise (``methods.noise``)."""

from dataclasses import dataclass

from ...models.statistics import CURRENT, FEWEST, RUNNING
from ...models.tasks import TASKS
from ...procedural import registry
from ..fields import opt
from .base import TransferConfig, batch_size, samples


@dataclass
class NoiseConfig(TransferConfig):
    """Noise images, without optimisation: uniform, Gaussian (the teacher's mean and std), or smooth (low-pass)."""

    tasks = TASKS

    n: int = samples(24000)
    batch: int = batch_size(500)
    kind: str = opt("uniform", "distribution of the pixels", choices=registry.NOISE, code=registry.module_of)
    statistics: str = opt(
        RUNNING, "BatchNorm statistics for the teacher's logits: the stored ones, or those of the batch (NormShift)",
        choices=(RUNNING, CURRENT),
    )  # fmt: skip

    def check(self):
        if self.statistics != CURRENT:
            return None
        batch, rest = min(self.n, self.batch), self.n % self.batch
        if batch < FEWEST:
            name = "n" if self.n < FEWEST else "batch"
            return f"{name}: {batch} images together are too few for batch statistics; use {FEWEST} or more"
        if self.n > self.batch and 0 < rest < FEWEST:
            return f"n: the last batch has {rest} images, too few for batch statistics; use a multiple of {self.batch}"
        return None
