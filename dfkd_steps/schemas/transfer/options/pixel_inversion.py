"""The config fields of gradient descent on the pixels of a batch (``engines.pixel_inversion``)."""

from dataclasses import dataclass

from ...fields import opt
from . import objective


@dataclass
class PixelOptions:
    """The fields that DeepInversion and its adaptive form share."""

    onehot: float = objective.weight("onehot", 1.0)
    bn: float = objective.weight("bn", 10.0)
    # Published: 2.5e-5 of the norm over a batch of 256 (16 times that by image), images in units of a std of 0.2, and with it
    # Adam steps of 0.05 in these units.
    tv: float = objective.weight("tv", 2e-3)
    l2: float = objective.weight("l2", 0.0)
    steps: int = opt(2000, "Adam steps per batch of images", lo=1)
    lr: float = opt(
        0.01, "peak learning rate (Adam) of pixels in [0,1] (0.05 in units of a standard deviation of 0.2)", above=0, hi=100
    )
    schedule: str = opt("constant", "learning rate schedule over the steps of a batch", choices=("constant", "cosine"))
