"""The config of the method PSAQ (``methods.psaq``)."""

from dataclasses import dataclass

from ..choices import VIEWS, precision_field
from ..fields import opt
from .base import TransferConfig, batch_size, samples
from .options import objective, schedules


@dataclass
class PSAQConfig(TransferConfig):
    """Pixels optimised towards a given class of the teacher and patches that its attention distinguishes; needs no BatchNorm."""

    n: int = samples(24000)
    batch: int = batch_size(32)
    onehot: float = objective.weight("onehot", 1.0)
    patches: float = objective.weight("patches", 1.0)
    # Published: 0.05 of the distance of the total variation of a batch of 32 images of 224x224, in units of a std of 0.226, to a
    # number from 2,500 to 3,000. As the roughness of a pixel in [0,1], the middle of these is 0.0708 and its weight 1,942.
    roughness: float = objective.weight("roughness", 1942.0)
    smooth_to: float = opt(0.0708, "target roughness: root mean square difference of neighbouring pixels in [0,1]", lo=0, hi=1)
    steps: int = opt(1000, "Adam steps per batch of images", lo=1)
    lr: float = opt(
        0.045, "peak learning rate (Adam) of pixels in [0,1] (0.2 in units of a standard deviation of 0.226)", above=0, hi=100
    )
    schedule: str = opt(
        "cycles", f"learning rate over the steps of a batch: {schedules.MEANING}", choices=("constant", "cosine", "cycles")
    )
    view: str = opt("roll-flip", "augmentation of the images before the losses, redrawn in every step", choices=VIEWS)
    precision: str = precision_field()
