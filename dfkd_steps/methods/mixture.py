"""Several sources in equal parts as an arbitrary transfer set (Nayak et al., WACV 2021, arXiv 2011.09113)."""

from dataclasses import dataclass

import torch

from ..models.tasks import TASKS
from ..procedural import registry
from ..schemas.fields import opt
from .base import Batch, Method, TransferConfig, batch_size, samples
from .engines.image_fit import fit


@dataclass
class MixtureConfig(TransferConfig):
    """Noise, procedural images and, where ``source`` names one, a data set, sample by sample in turn."""

    n: int = samples(24000)
    batch: int = batch_size(500)
    kinds: list[str] = opt(
        ["uniform", "smooth", "leaves", "strokes", "fractals"],
        "what is mixed",
        choices=tuple(registry.REGISTRY),
        code=registry.module_of,
    )
    source: str = opt("", "a data set that is mixed in, params/dataset/NAME.yaml ('' = none)", reads="dataset")

    def check(self):
        return None if self.kinds or self.source else "kinds is empty and there is no source; name at least one"


class Mixture(Method):
    """Batch i depends on (seed, i) alone: sample j is of part j modulo the number of parts."""

    Config = MixtureConfig
    tasks = TASKS

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
            rng = torch.Generator().manual_seed(self.seed_of(part, index))
            if part == "source":
                images[chosen] = self.from_source(int(chosen.sum()), rng)
            elif chosen.any():
                images[chosen] = registry.draw(part, int(chosen.sum()), description, rng)
        return Batch(images)

    def from_source(self, number: int, rng):
        """``number`` random training images of the source."""
        chosen = torch.randint(0, self.sources[0].sizes["train"], (number,), generator=rng).unique()
        stored, _ = self.sources[0].read("train", chosen.numpy())
        images = fit(torch.from_numpy(stored).float() / 255, self.teacher.description.image_shape)
        return images[torch.randint(0, len(images), (number,), generator=rng)] if len(images) < number else images

    def about(self) -> dict:
        """Says what is mixed."""
        return {"label": f"mixture of {', '.join([*self.config.kinds, *filter(None, [self.config.source])])}"}
