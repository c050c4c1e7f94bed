"""The config fields of a generator that is trained once and kept."""

from dataclasses import dataclass

from ....models.generator_architectures import ARCHITECTURES
from ...choices import VIEWS
from ...fields import opt


def arch(default: str):
    """The config field ``arch_g``, with a method's own default."""
    return opt(default, "architecture of the generator, named after its publication", choices=tuple(ARCHITECTURES))


def latent(default: int):
    """The config field ``latent``, with a method's own default."""
    return opt(default, "length of the latent vector", lo=1, hi=65536)


@dataclass
class GeneratorOptions:
    """The fields of a generator that is trained once and kept, but for its architecture and its latent vector."""

    width: int = opt(128, "channels of the generator", lo=2, hi=65536)
    view: str = opt("none", "augmentation of the images before the generator's losses, redrawn in every step", choices=VIEWS)
