"""DFAD: data-free adversarial distillation (Fang et al., 2019, arXiv 1912.11006)."""

from dataclasses import dataclass

from .engines import alternating, objective, online_student


@dataclass
class DFADConfig(alternating.AlternatingOptions):
    """A generator that looks for images on which the logits of student and teacher differ most, in L1."""

    adversarial: float = objective.weight("adversarial", 1.0)
    distance: str = objective.distance("l1")
    mode_s: str = objective.mode("train")
    clip_g: float = alternating.generator_clip(0.0)
    steps_s: int = alternating.student_steps(5)
    same: bool = alternating.same_images(False)
    loss_s: str = online_student.loss("l1")
    tau: float = online_student.tau(20.0)
    attention_s: float = online_student.attention(0.0)
    optimizer_s: str = online_student.optimizer("sgd")
    lr_s: float = online_student.lr(0.1)
    weight_decay_s: float = online_student.weight_decay(5e-4)
    clip_s: float = online_student.clip(0.0)
    collect: float = alternating.collected(1.0)


class DFAD(alternating.AlternatingTraining):
    """One generator step, five student steps on new images."""

    Config = DFADConfig
