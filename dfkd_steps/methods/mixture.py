"""Several sources in equal parts as an arbitrary transfer set (Nayak et al., WACV 2021, arXiv 2011.09113)."""

from dataclasses import dataclass

import torch

from ..procedural import registry
from ..schemas.fields import opt
from . import dataset
from .base import Batch, Method, TransferConfig


@dataclass
class Config(TransferConfig):
    """Noise, procedural images and, where ``source`` names one, a data set, sample by sample in turn."""

    kinds: list[str] = opt(
        ["uniform", "smooth", "leaves", "strokes", "fractals"],
        "what is mixed",
        choices=tuple(registry.REGISTRY),
        code=registry.module_of,
    )
    source: str = opt("", "a data set that is mixed in, params/dataset/NAME.yaml ('' = none)", reads="dataset")

    def check(self):
        return None if self.kinds or self.source else "kinds is empty and there is no source; name at least one"


class Method(Method):
    """Batch i depends on (seed, i) alone: sample j is of part j modulo the number of parts."""

    def batch(self, index: int) -> Batch:
        """Images of all parts."""
        rows, described = torch.tensor(self.rows(index)), self.teacher.description
        parts = [*self.config.kinds, *(["source"] if self.sources else [])]
        images = torch.empty(len(rows), *described.image_shape)
        for place, part in enumerate(parts):
            own = rows % len(parts) == place
            rng = torch.Generator().manual_seed(self.seed_of(part, index))
            if part == "source":
                images[own] = self.natural(int(own.sum()), rng)
            elif own.any():
                images[own] = registry.load(part)(int(own.sum()), described, rng)
        return Batch(images)

    def natural(self, number: int, rng):
        """``number`` random training images of the source."""
        chosen = torch.randint(0, self.sources[0].sizes["train"], (number,), generator=rng).unique()
        stored, _ = self.sources[0].read("train", chosen.numpy())
        made = dataset.fit(torch.from_numpy(stored).float() / 255, self.teacher.description.image_shape)
        return made[torch.randint(0, len(made), (number,), generator=rng)] if len(made) < number else made

    def about(self) -> dict:
        """Says what is mixed."""
        return {"label": f"mixture of {', '.join([*self.config.kinds, *filter(None, [self.config.source])])}"}
