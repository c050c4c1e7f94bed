"""The config of the method DeepInversion (``methods.deepinversion``)."""

from dataclasses import dataclass

from ...models.tasks import TASKS
from ..choices import VIEWS, precision_field
from ..fields import opt
from .base import TransferConfig, batch_size, samples
from .options import objective, pixel_inversion


@dataclass
class DeepInversionConfig(pixel_inversion.PixelOptions, TransferConfig):
    """Pixels optimised towards a given class of the teacher, the statistics of its BatchNorm layers, and smoothness."""

    tasks = TASKS

    entropy: float = objective.weight("entropy", 0.0)
    presence: float = objective.weight("presence", 0.0)
    beta1: float = pixel_inversion.beta(1, 0.9)
    beta2: float = pixel_inversion.beta(2, 0.999)
    n: int = samples(24000)
    batch: int = batch_size(256)
    view: str = opt("roll", "augmentation of the images before the losses, redrawn in every step", choices=VIEWS)
    precision: str = precision_field()

    def check(self):
        return self.fault_of_steps()
