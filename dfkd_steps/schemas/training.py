"""How a network is trained: the fields that a teacher and a student have in common."""

from dataclasses import dataclass

from ..models import names
from .choices import ARCH, OPTIMIZERS, precision_field
from .fields import opt, required

OPTIMIZER = "sgd = Nesterov momentum 0.9; soap = Adam in Shampoo's eigenbasis, for few steps"


@dataclass
class Training:
    """How a network is trained: what a teacher and a student have in common."""

    arch: str = required(f"{ARCH} or factory.MODULE.FUNCTION", choices=names.Networks, code=names.code_of, external="network")
    epochs: int = opt(20, "passes over the set", lo=1)
    batch: int = opt(128, "images per step", lo=2)
    optimizer: str = opt("sgd", OPTIMIZER, choices=OPTIMIZERS)
    lr: float = opt(0.1, "peak learning rate", above=0, hi=100)
    weight_decay: float = opt(5e-4, "weight decay, on weights of two or more dimensions only", lo=0, hi=1)
    schedule: str = opt("cosine", "learning rate schedule, per step", choices=("cosine", "onecycle", "constant"))
    clip: float = opt(0.0, "maximum gradient norm (0 = no limit)", lo=0)
    precision: str = precision_field()
    seed: int = opt(0, "seed of initial weights, data order and augmentation", lo=0)
