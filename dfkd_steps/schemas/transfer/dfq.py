"""The config of the method DFQ (``methods.dfq``)."""

from dataclasses import dataclass

from .options import alternating, generator, objective, online_student


@dataclass
class DFQConfig(alternating.AlternatingOptions, online_student.SGDOptions):
    """An adversarial generator, held near the data by BatchNorm statistics, confidence and class balance."""

    adversarial: float = objective.weight("adversarial", 1.0)
    distance: str = objective.distance("kl")
    mode_s: str = objective.mode("eval")
    bn: float = objective.weight("bn", 1.0)
    onehot: float = objective.weight("onehot", 1.0)
    balance: float = objective.weight("balance", 20.0)
    arch_g: str = generator.arch("cmi-large")
    latent: int = generator.latent(256)
    beta_g: float = alternating.field("beta_g", 0.5)
    schedule_g: str = alternating.field("schedule_g", "constant")
    clip_g: float = alternating.field("clip_g", 0.0)
    steps_s: int = alternating.field("steps_s", 10)
    images_s: str = alternating.field("images_s", "new")
    mode_g: str = alternating.field("mode_g", "eval")
    loss_s: str = online_student.field("loss_s", "kd")
    tau: float = online_student.field("tau", 1.0)
    lr_s: float = online_student.field("lr_s", 0.1)
    schedule_s: str = alternating.field("schedule_s", "cosine")
    weight_decay_s: float = online_student.field("weight_decay_s", 1e-4)
    collect: float = alternating.field("collect", 1.0)
