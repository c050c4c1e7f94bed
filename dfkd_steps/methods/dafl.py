"""DAFL: data-free learning of student networks (Chen et al., ICCV 2019, arXiv 1904.01186)."""

from dataclasses import dataclass

from .engines import alternating, objective, online_student


@dataclass
class DAFLConfig(alternating.AlternatingOptions):
    """A generator whose images the teacher is sure of, evenly over the classes, with large features; no student in it."""

    onehot: float = objective.weight("onehot", 1.0)
    balance: float = objective.weight("balance", 20.0)
    activation: float = objective.weight("activation", 1e-3)
    clip_g: float = alternating.generator_clip(0.0)
    steps_s: int = alternating.student_steps(5)
    same: bool = alternating.same_images(False)
    loss_s: str = online_student.loss("kd")
    tau: float = online_student.tau(20.0)
    attention_s: float = online_student.attention(0.0)
    optimizer_s: str = online_student.optimizer("sgd")
    lr_s: float = online_student.lr(0.1)
    weight_decay_s: float = online_student.weight_decay(5e-4)
    clip_s: float = online_student.clip(0.0)
    collect: float = alternating.collected(0.5)


class DAFL(alternating.AlternatingTraining):
    """One generator step, five student steps on new images."""

    Config = DAFLConfig
