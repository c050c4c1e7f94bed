"""ZSKT: zero-shot knowledge transfer via adversarial belief matching (Micaelli & Storkey, NeurIPS 2019, arXiv 1905.09768)."""

from dataclasses import dataclass

from ..schemas.fields import changed
from .engines import objective
from .engines.alternating import Game, GameConfig


@dataclass
class Config(GameConfig):
    """A generator that looks for images on which student and teacher differ in KL; ten student steps on each batch of it,
    by KL and by attention transfer."""

    # The public code averages the KL over the (ten) classes too: its 250 (attention) and 5 (clip) are ten times as much here.

    adversarial: float = objective.weight("adversarial", 1.0)
    distance: str = objective.distance("kl")
    mode_s: str = objective.mode("train")
    tau: float = changed(GameConfig, "tau", 1.0)
    attention_s: float = changed(GameConfig, "attention_s", 2500.0)
    steps_s: int = changed(GameConfig, "steps_s", 10)
    same: bool = changed(GameConfig, "same", True)
    optimizer_s: str = changed(GameConfig, "optimizer_s", "adam")
    lr_s: float = changed(GameConfig, "lr_s", 2e-3)
    weight_decay_s: float = changed(GameConfig, "weight_decay_s", 0.0)
    clip_s: float = changed(GameConfig, "clip_s", 50.0)
    clip_g: float = changed(GameConfig, "clip_g", 50.0)
    collect: float = changed(GameConfig, "collect", 1.0)


class Method(Game):
    """One generator step, ten student steps on the same images."""
