"""The config fields of a generator that is trained once and kept."""

from dataclasses import dataclass

from ....models.generator_architectures import ARCHITECTURES
from ...choices import VIEWS
from ...fields import opt


def arch(default: str):
    """The config field ``arch_g``, with a method's own default."""
    return opt(default, "generator: the network of this publication", choices=tuple(ARCHITECTURES))


def latent(default: int):
    """The config field ``latent``, with a method's own default."""
    return opt(default, "length of the latent vector", lo=1, hi=65536)


@dataclass
class GeneratorOptions:
    """The fields of a generator that is trained once and kept, but for its architecture and its latent vector."""

    width: int = opt(128, "channels of the generator", lo=2, hi=65536)
    view: str = opt("none", "augmentation inside the generator's losses, drawn anew each step", choices=VIEWS)
