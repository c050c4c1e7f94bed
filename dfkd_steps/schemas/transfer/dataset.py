"""The config of the method RealData (``methods.dataset``)."""

from dataclasses import dataclass

from ...models.tasks import TASKS
from ..fields import required
from .base import TransferConfig, batch_size, samples


@dataclass
class RealDataConfig(TransferConfig):
    """Training images of a data set, converted for the teacher (grey to colour or back, resized); its labels are not read."""

    tasks = TASKS

    source: str = required("name of the data set, params/dataset/NAME.yaml; own = the one in the path", reads="dataset")
    n: int = samples(0, "samples, a random subset (0 = all training images)", lo=0)
    batch: int = batch_size(500)

    def max_shards(self) -> int:
        """One: reading is no work to share."""
        return 1
