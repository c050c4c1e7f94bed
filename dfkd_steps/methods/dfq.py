"""DFQ: data-free network quantization with adversarial knowledge distillation (Choi et al., 2020, arXiv 2005.04136)."""

from dataclasses import dataclass

from .engines import alternating, objective, online_student


@dataclass
class DFQConfig(alternating.AlternatingOptions):
    """The adversarial generator, held near the data by BatchNorm statistics, by confidence and by class balance."""

    adversarial: float = objective.weight("adversarial", 1.0)
    distance: str = objective.distance("kl")
    mode_s: str = objective.mode("eval")
    bn: float = objective.weight("bn", 1.0)
    onehot: float = objective.weight("onehot", 1.0)
    balance: float = objective.weight("balance", 20.0)
    clip_g: float = alternating.generator_clip(0.0)
    steps_s: int = alternating.student_steps(10)
    same: bool = alternating.same_images(False)
    loss_s: str = online_student.loss("kd")
    tau: float = online_student.tau(20.0)
    attention_s: float = online_student.attention(0.0)
    optimizer_s: str = online_student.optimizer("sgd")
    lr_s: float = online_student.lr(0.1)
    weight_decay_s: float = online_student.weight_decay(5e-4)
    clip_s: float = online_student.clip(0.0)
    collect: float = alternating.collected(1.0)


class DFQ(alternating.AlternatingTraining):
    """One generator step, ten student steps on new images."""

    Config = DFQConfig
