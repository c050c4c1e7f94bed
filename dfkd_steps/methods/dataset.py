"""A data set as the transfer set: another one (arXiv 2011.09113), or the task's own as the real-data baseline."""

import numpy as np
import torch

from ..runtime.errors import UserError
from ..runtime.seeds import seed_of
from ..schemas.transfer.dataset import RealDataConfig
from .base import Batch, Method
from .engines.image_fit import fit


class RealData(Method):
    """Batch i depends on (seed, i) alone."""

    Config = RealDataConfig
    all_from_sources = True

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        have = sources[0].sizes["train"]
        if config.n > have:
            raise UserError(
                f"transfer: n: {config.n} is more than the {have} training images of {config.source}; lower n or write n=0"
            )

    @property
    def total(self) -> int:
        """All training images, or the subset asked for."""
        return self.config.n or self.sources[0].sizes["train"]

    def partitions(self) -> list[range]:
        """All in one."""
        return [range(self.count())]

    def batch(self, index: int) -> Batch:
        """The next images of one random order of the source."""
        source, rows = self.sources[0], self.rows(index)
        order = np.random.default_rng(seed_of("dataset", self.config.seed)).permutation(source.sizes["train"])
        chosen = order[rows.start : rows.stop]
        images, _ = source.read("train", np.sort(chosen))
        images = images[np.argsort(np.argsort(chosen))]
        return Batch(fit(torch.from_numpy(images).float() / 255, self.teacher.description.image_shape))
