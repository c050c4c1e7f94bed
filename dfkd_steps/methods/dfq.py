"""DFQ: data-free network quantization with adversarial knowledge distillation (Choi et al., 2020, arXiv 2005.04136)."""

from dataclasses import dataclass

from ..schemas.fields import changed
from .engines import objective
from .engines.alternating import Game, GameConfig


@dataclass
class Config(GameConfig):
    """The adversarial generator, held near the data by BatchNorm statistics, by confidence and by class balance."""

    adversarial: float = objective.weight("adversarial", 1.0)
    distance: str = objective.distance("kl")
    mode_s: str = objective.mode("eval")
    bn: float = objective.weight("bn", 1.0)
    onehot: float = objective.weight("onehot", 1.0)
    balance: float = objective.weight("balance", 20.0)
    steps_s: int = changed(GameConfig, "steps_s", 10)
    collect: float = changed(GameConfig, "collect", 1.0)


class Method(Game):
    """One generator step, ten student steps on new images."""
