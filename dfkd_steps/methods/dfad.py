"""DFAD: data-free adversarial distillation (Fang et al., 2019, arXiv 1912.11006)."""

from dataclasses import dataclass

from ..schemas.fields import changed
from .engines import objective
from .engines.alternating import Game, GameConfig


@dataclass
class Config(GameConfig):
    """A generator that looks for images on which the logits of student and teacher differ most, in L1."""

    adversarial: float = objective.weight("adversarial", 1.0)
    distance: str = objective.distance("l1")
    mode_s: str = objective.mode("train")
    loss_s: str = changed(GameConfig, "loss_s", "l1")
    collect: float = changed(GameConfig, "collect", 1.0)


class Method(Game):
    """One generator step, five student steps on new images."""
