"""The config of the method DFAD (``methods.dfad``)."""

from dataclasses import dataclass

from ...models.tasks import TASKS
from .options import alternating, generator, objective, online_student


@dataclass
class DFADConfig(alternating.AlternatingOptions, online_student.SGDOptions):
    """A generator that seeks images on which the logits of student and teacher differ most in L1."""

    tasks = TASKS

    adversarial: float = objective.weight("adversarial", 1.0)
    entropy: float = objective.weight("entropy", 0.0)
    bn: float = objective.weight("bn", 0.0)
    distance: str = objective.distance("l1")
    mode_s: str = objective.mode("train")
    arch_g: str = generator.arch("dfad")
    latent: int = generator.latent(256)
    beta_g: float = alternating.field("beta_g", 0.9)
    schedule_g: str = alternating.field("schedule_g", "drops-20-40")
    clip_g: float = alternating.field("clip_g", 0.0)
    steps_s: int = alternating.field("steps_s", 5)
    images_s: str = alternating.field("images_s", "new")
    mode_g: str = alternating.field("mode_g", "train")
    loss_s: str = online_student.field("loss_s", "l1")
    tau: float = online_student.field("tau", 1.0)
    lr_s: float = online_student.field("lr_s", 0.1)
    schedule_s: str = alternating.field("schedule_s", "drops-20-40")
    weight_decay_s: float = online_student.field("weight_decay_s", 5e-4)
    collect: float = alternating.field("collect", 1.0)
