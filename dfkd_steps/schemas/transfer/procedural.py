"""The config of the method Procedural (``methods.procedural``)."""

from dataclasses import dataclass

from ...models.tasks import TASKS
from ...procedural import registry
from ..fields import opt
from .base import TransferConfig, batch_size, samples


@dataclass
class ProceduralConfig(TransferConfig):
    """Dead leaves (overlapping discs), strokes (curves), glyphs (as written with a pen), objects (one per image), scenes (objects
    on a background, in the colours of photographs) or fractals (iterated function systems)."""

    tasks = TASKS

    n: int = samples(24000)
    batch: int = batch_size(500)
    kind: str = opt("strokes", "kind of images to draw", choices=registry.PROCEDURAL, code=registry.module_of)
