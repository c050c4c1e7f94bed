"""The config fields of images moved to soft targets (``engines.soft_targets``)."""

from dataclasses import dataclass

from ....procedural import registry
from ...choices import VIEWS, precision_field
from ...fields import opt
from ..base import TransferConfig, batch_size, samples


@dataclass
class SoftTargetOptions(TransferConfig):
    """The fields of methods that move pixels to soft targets."""

    n: int = samples(24000)
    batch: int = batch_size(500)
    tau: float = opt(20.0, "temperature of the teacher while pixels are optimised", above=0, hi=1000)
    start: str = opt(
        "uniform",
        "initial images: uniform noise (the paper), or another synthetic source",
        choices=tuple(registry.REGISTRY),
        code=registry.module_of,
    )
    untouched: float = opt(
        0.0, "share of the samples that keep their initial image; their target is the teacher's softened output", lo=0, hi=0.9
    )
    steps: int = opt(1500, "maximum number of Adam steps", lo=1)
    lr: float = opt(0.05, "learning rate (Adam) of pixels in [0,1]", above=0, hi=100)
    view: str = opt("none", "augmentation of the images before the loss, redrawn in every step", choices=VIEWS)
    window: int = opt(50, "steps between two convergence checks", lo=1)
    tolerance: float = opt(
        1e-3, "a sample stops when its mean loss over `window` steps fell by less than this, nats (0 = never)", lo=0
    )
    precision: str = precision_field()
