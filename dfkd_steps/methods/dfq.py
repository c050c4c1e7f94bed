"""DFQ: data-free network quantization with adversarial knowledge distillation (Choi et al., 2020, arXiv 2005.04136)."""

from dataclasses import dataclass

from .engines import alternating, objective, online_student


@dataclass
class DFQConfig(alternating.AlternatingOptions, online_student.SGDOptions):
    """The adversarial generator, held near the data by BatchNorm statistics, by confidence and by class balance."""

    adversarial: float = objective.weight("adversarial", 1.0)
    distance: str = objective.distance("kl")
    mode_s: str = objective.mode("eval")
    bn: float = objective.weight("bn", 1.0)
    onehot: float = objective.weight("onehot", 1.0)
    balance: float = objective.weight("balance", 20.0)
    clip_g: float = alternating.field("clip_g", 0.0)
    steps_s: int = alternating.field("steps_s", 10)
    same: bool = alternating.field("same", False)
    loss_s: str = online_student.field("loss_s", "kd")
    lr_s: float = online_student.field("lr_s", 0.1)
    collect: float = alternating.field("collect", 1.0)


class DFQ(alternating.AlternatingTraining):
    """One generator step, ten student steps on new images."""

    Config = DFQConfig
