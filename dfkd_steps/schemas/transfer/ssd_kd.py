"""The config of the method SSDKD (``methods.ssd_kd``)."""

from dataclasses import dataclass

from ...models.tasks import TASKS
from ..fields import opt
from .options import generator_inversion, model_inversion, objective


@dataclass
class SSDKDConfig(generator_inversion.MetaInverterOptions, model_inversion.InversionOptions):
    """Fast's inversion into a small buffer that is partly renewed, with emphasis on rare and hard images."""

    tasks = TASKS

    n: int = model_inversion.pool_samples(5000)
    bn: float = objective.weight("bn", 10.0)
    onehot: float = objective.weight("onehot", 0.4)
    entropy: float = objective.weight("entropy", 0.0)
    presence: float = objective.weight("presence", 0.0)
    balance: float = objective.weight("balance", 0.0)
    moments: float = objective.weight("moments", 0.0)
    adversarial: float = objective.weight("adversarial", 1.1)
    distance: str = objective.distance("decision")
    diversity: float = opt(1.0, "weight of rare images: exponent of (1 - share of their class in the buffer)", lo=0, hi=10)
    gamma: float = opt(2.0, "weight of hard images: exponent of (1 - teacher's probability)", lo=0, hi=10)
    priority: bool = opt(True, "draw the student's images by priority, with importance weights, instead of uniformly")
    beta: float = opt(0.5, "exponent of the importance weights (0 = none, 1 = full correction)", lo=0, hi=1)
    renew: float = opt(
        0.5, "share of each new batch that replaces images of a full buffer, those that the student knows best", above=0, hi=1
    )
