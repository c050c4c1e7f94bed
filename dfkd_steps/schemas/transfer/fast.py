"""The config of the method Fast (``methods.fast``)."""

from dataclasses import dataclass

from ...models.tasks import TASKS
from .options import generator_inversion, model_inversion, objective


@dataclass
class FastConfig(generator_inversion.MetaInverterOptions, model_inversion.InversionOptions):
    """Batches from a generator that is meta-learned to need only a few steps for each."""

    tasks = TASKS

    n: int = model_inversion.pool_samples(56320)
    bn: float = objective.weight("bn", 10.0)
    onehot: float = objective.weight("onehot", 0.4)
    entropy: float = objective.weight("entropy", 0.0)
    presence: float = objective.weight("presence", 0.0)
    balance: float = objective.weight("balance", 0.0)
    moments: float = objective.weight("moments", 0.0)
    adversarial: float = objective.weight("adversarial", 1.1)
    distance: str = objective.distance("decision")
