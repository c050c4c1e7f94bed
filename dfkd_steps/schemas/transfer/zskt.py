"""The config of the method ZSKT (``methods.zskt``)."""

from dataclasses import dataclass

from .options import alternating, generator, objective, online_student


@dataclass
class ZSKTConfig(alternating.AlternatingOptions):
    """A generator that seeks images on which student and teacher differ in KL; ten student steps on each of its batches,
    with KL and attention transfer. As in the public code, the KL is averaged over the classes too."""

    adversarial: float = objective.weight("adversarial", 1.0)
    distance: str = objective.distance("kl-mean")
    mode_s: str = objective.mode("train")
    arch_g: str = generator.arch("zskt")
    latent: int = generator.latent(100)
    beta_g: float = alternating.field("beta_g", 0.9)
    schedule_g: str = alternating.field("schedule_g", "cosine")
    clip_g: float = alternating.field("clip_g", 5.0)
    steps_s: int = alternating.field("steps_s", 10)
    images_s: str = alternating.field("images_s", "after")
    mode_g: str = alternating.field("mode_g", "train")
    loss_s: str = online_student.field("loss_s", "kd-mean")
    tau: float = online_student.field("tau", 1.0)
    attention_s: float = online_student.field("attention_s", 250.0)
    optimizer_s: str = online_student.field("optimizer_s", "adam")
    lr_s: float = online_student.field("lr_s", 2e-3)
    schedule_s: str = alternating.field("schedule_s", "cosine")
    weight_decay_s: float = online_student.field("weight_decay_s", 0.0)
    clip_s: float = online_student.field("clip_s", 5.0)
    collect: float = alternating.field("collect", 1.0)
