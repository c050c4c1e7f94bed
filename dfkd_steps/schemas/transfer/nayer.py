"""The config of the method NAYER (``methods.nayer``)."""

from dataclasses import dataclass

from ..fields import opt
from .options import label_inversion, model_inversion, objective


@dataclass
class NAYERConfig(label_inversion.LabelInverterOptions, model_inversion.InversionOptions):
    """Batches from label embeddings through a random layer that is redrawn for each: a new start instead of a new generator."""

    n: int = model_inversion.pool_samples(160000)
    batches: int = opt(2, "batches of images per round with a student", lo=1)
    batches_warmup: int = opt(10, "batches of images per round without a student", lo=1)
    bn: float = objective.weight("bn", 10.0)
    onehot: float = objective.weight("onehot", 0.5)
    balance: float = objective.weight("balance", 0.0)
    moments: float = objective.weight("moments", 0.0)
    adversarial: float = objective.weight("adversarial", 1.33)
    distance: str = objective.distance("decision")

    def batches_of(self, index: int) -> int:
        """The batches of images that round ``index`` makes."""
        return self.batches if index >= self.warmup else self.batches_warmup
