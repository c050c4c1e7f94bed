"""DAFL: data-free learning of student networks (Chen et al., ICCV 2019, arXiv 1904.01186)."""

from dataclasses import dataclass

from .engines import objective
from .engines.alternating import Game, GameConfig


@dataclass
class Config(GameConfig):
    """A generator whose images the teacher is sure of, evenly over the classes, with large features; no student in it."""

    onehot: float = objective.weight("onehot", 1.0)
    balance: float = objective.weight("balance", 20.0)
    activation: float = objective.weight("activation", 1e-3)


class Method(Game):
    """One generator step, five student steps."""
