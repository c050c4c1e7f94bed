"""DAFL: data-free learning of student networks (Chen et al., ICCV 2019, arXiv 1904.01186)."""

from dataclasses import dataclass

from .engines import alternating, objective, online_student


@dataclass
class DAFLConfig(alternating.AlternatingOptions, online_student.SGDOptions):
    """A generator whose images the teacher is sure of, evenly over the classes, with large features; no student in it."""

    onehot: float = objective.weight("onehot", 1.0)
    balance: float = objective.weight("balance", 20.0)
    activation: float = objective.weight("activation", 1e-3)
    clip_g: float = alternating.field("clip_g", 0.0)
    steps_s: int = alternating.field("steps_s", 5)
    same: bool = alternating.field("same", False)
    loss_s: str = online_student.field("loss_s", "kd")
    lr_s: float = online_student.field("lr_s", 0.1)
    collect: float = alternating.field("collect", 0.5)


class DAFL(alternating.AlternatingTraining):
    """One generator step, five student steps on new images."""

    Config = DAFLConfig
