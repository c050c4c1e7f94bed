"""DFAD: data-free adversarial distillation (Fang et al., 2019, arXiv 1912.11006)."""

from dataclasses import dataclass

from .engines import alternating, objective, online_student


@dataclass
class DFADConfig(alternating.AlternatingOptions, online_student.SGDOptions):
    """A generator that looks for images on which the logits of student and teacher differ most, in L1."""

    adversarial: float = objective.weight("adversarial", 1.0)
    distance: str = objective.distance("l1")
    mode_s: str = objective.mode("train")
    clip_g: float = alternating.field("clip_g", 0.0)
    steps_s: int = alternating.field("steps_s", 5)
    same: bool = alternating.field("same", False)
    loss_s: str = online_student.field("loss_s", "l1")
    lr_s: float = online_student.field("lr_s", 0.1)
    collect: float = alternating.field("collect", 1.0)


class DFAD(alternating.AlternatingTraining):
    """One generator step, five student steps on new images."""

    Config = DFADConfig
