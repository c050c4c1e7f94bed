"""The config fields of a generator that is trained once and kept."""

from dataclasses import dataclass

from ...models.generator import ARCHITECTURES
from ...schemas.fields import opt
from ...training import views


def arch(default: str):
    """The config field ``arch_g``, with a method's own default."""
    return opt(default, "generator: the network of this publication", choices=tuple(ARCHITECTURES))


def latent(default: int):
    """The config field ``latent``, with a method's own default."""
    return opt(default, "length of the latent vector", lo=1)


@dataclass
class GeneratorOptions:
    """The fields of a generator that is trained once and kept, but for its architecture and its latent vector."""

    width: int = opt(128, "channels of the generator", lo=2)
    view: str = opt("none", "augmentation inside the generator's losses, drawn anew each step", choices=tuple(views.VIEWS))
