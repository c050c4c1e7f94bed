"""The config fields of a generator that is trained once and kept."""

from dataclasses import dataclass

from ...models.generator import HEADS
from ...schemas.fields import opt
from ...training import views


@dataclass
class GeneratorOptions:
    """The fields of a generator that is trained once and kept."""

    latent: int = opt(100, "length of the latent vector", lo=1, hi=65536)
    width: int = opt(128, "channels of the generator", lo=2, hi=65536)
    head: str = opt("normal", "end of the generator: sigmoid, or batch-normalised to the data's mean and std", choices=HEADS)
    view: str = opt("none", "augmentation inside the generator's losses, drawn anew each step", choices=tuple(views.VIEWS))
