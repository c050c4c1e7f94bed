"""Several sources in equal parts as an arbitrary transfer set (Nayak et al., WACV 2021, arXiv 2011.09113)."""

import torch

from ..procedural import drawing, registry
from ..schemas.transfer.mixture import MixtureConfig
from .base import Batch, Method
from .engines.image_fit import fit


class Mixture(Method):
    """Batch i depends on (seed, i) alone: sample j is of part j modulo the number of parts."""

    Config = MixtureConfig

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.drawn = tuple(kind for kind in config.kinds if kind in registry.PROCEDURAL)

    def batch(self, index: int) -> Batch:
        """Images of all parts."""
        rows = torch.tensor(self.rows(index))
        description = self.teacher.description
        parts = [*self.config.kinds, *(["source"] if self.sources else [])]
        images = torch.empty(len(rows), *description.image_shape)
        for place, part in enumerate(parts):
            chosen = rows % len(parts) == place
            # A kind that is named twice has twice as many images, and not each of them twice.
            again = parts[:place].count(part)
            rng = torch.Generator().manual_seed(self.seed_of(part, index, *([again] if again else [])))
            if part == "source":
                images[chosen] = self.from_source(int(chosen.sum()), rng)
            elif chosen.any():
                images[chosen] = drawing.draw(part, int(chosen.sum()), description, rng)
        return Batch(images)

    def from_source(self, number: int, rng):
        """``number`` random training images of the source."""
        chosen = torch.randint(0, self.sources[0].sizes["train"], (number,), generator=rng)
        chosen, places = chosen.unique(return_inverse=True)  # HDF5 reads rows once, in order
        stored, _ = self.sources[0].read("train", chosen.numpy())
        return fit(torch.from_numpy(stored).float() / 255, self.teacher.description.image_shape)[places]

    def about(self) -> dict:
        """Says what is mixed."""
        return {"label": f"mixture of {', '.join([*self.config.kinds, *filter(None, [self.config.source])])}"}
