"""ZSKT: zero-shot knowledge transfer via adversarial belief matching (Micaelli & Storkey, NeurIPS 2019, arXiv 1905.09768)."""

from dataclasses import dataclass

from .engines import alternating, objective, online_student


@dataclass
class ZSKTConfig(alternating.AlternatingOptions):
    """A generator that looks for images on which student and teacher differ in KL; ten student steps on each batch of it,
    by KL and by attention transfer."""

    # The public code averages the KL over the (ten) classes too: its 250 (attention) and 5 (clip) are ten times as much here.

    adversarial: float = objective.weight("adversarial", 1.0)
    distance: str = objective.distance("kl")
    mode_s: str = objective.mode("train")
    clip_g: float = alternating.field("clip_g", 50.0)
    steps_s: int = alternating.field("steps_s", 10)
    same: bool = alternating.field("same", True)
    loss_s: str = online_student.field("loss_s", "kd")
    tau: float = online_student.field("tau", 1.0)
    attention_s: float = online_student.field("attention_s", 2500.0)
    optimizer_s: str = online_student.field("optimizer_s", "adam")
    lr_s: float = online_student.field("lr_s", 2e-3)
    weight_decay_s: float = online_student.field("weight_decay_s", 0.0)
    clip_s: float = online_student.field("clip_s", 50.0)
    collect: float = alternating.field("collect", 1.0)


class ZSKT(alternating.AlternatingTraining):
    """One generator step, ten student steps on the same images."""

    Config = ZSKTConfig
