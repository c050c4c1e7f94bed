"""The config of the method Mixture (``methods.mixture``)."""

from dataclasses import dataclass

from ...models.tasks import TASKS
from ...procedural import registry
from ..fields import opt
from .base import TransferConfig, batch_size, samples


@dataclass
class MixtureConfig(TransferConfig):
    """Noise, procedural images and, if ``source`` names one, a data set, alternating sample by sample."""

    tasks = TASKS

    n: int = samples(24000)
    batch: int = batch_size(500)
    kinds: list[str] = opt(
        ["uniform", "smooth", "leaves", "strokes", "fractals"],
        "kinds of images to mix",
        choices=tuple(registry.REGISTRY),
        code=registry.module_of,
    )
    source: str = opt("", "a data set to add to the mixture, params/dataset/NAME.yaml ('' = none)", reads="dataset")

    def check(self):
        return None if self.kinds or self.source else "kinds is empty and there is no source; name at least one"
