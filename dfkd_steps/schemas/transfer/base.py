"""The config of a synthesis method: the fields that all have.

The dataclass of a method stands in the file here that has the name of the method's module, the fields that several methods
have from one engine in ``options``. Nothing here imports torch: whoever reads a config waits seconds for it. These modules
count as code of the methods, since a method also computes with what its config's functions say.
"""

import typing
from dataclasses import dataclass

from ...models.tasks import CLASSIFICATION
from ..choices import IMAGE_TYPES
from ..fields import opt, required


def samples(default: int, doc: str = "samples", lo: int = 1):
    """The config field ``n``."""
    return opt(default, doc, lo=lo)


def batch_size(default: int, lo: int = 1):
    """The config field ``batch``."""
    return opt(default, "samples generated together", lo=lo)


@dataclass
class TransferConfig:
    """The fields of all methods. ``n`` and ``batch`` are declared where their default is: by each method or its engine."""

    if typing.TYPE_CHECKING:
        n: int
        batch: int

    tasks: typing.ClassVar[tuple[str, ...]] = (CLASSIFICATION,)  # that the teacher may be for

    method: str = required("synthesis method")
    image_type: str = opt("uint8", "how images are stored", choices=IMAGE_TYPES)
    seed: int = opt(0, "seed of every random choice", lo=0)

    def max_shards(self) -> int:
        """As many shards a set can have at most: the number of ``Method.partitions``."""
        return -(-self.n // self.batch)

    def training_steps(self) -> int:
        """Optimiser steps for the whole set, of images, generators and a student; 0 where images are drawn or read."""
        return -(-self.n // self.batch) * self.steps_of_batch()

    def steps_of_batch(self) -> int:
        """Optimiser steps for the images of a batch."""
        return getattr(self, "steps", 0) + getattr(self, "coarse", 0)

    def images_held(self) -> int:
        """Images that a method holds in memory all the time, beside those of a step."""
        return 0
