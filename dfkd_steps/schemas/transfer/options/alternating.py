"""The config fields of alternating training (``engines.alternating``)."""

from dataclasses import dataclass

from ...choices import precision_field
from ...fields import opt
from ..base import TransferConfig, batch_size, samples
from . import generator, online_student, schedules

FIELDS = {
    "steps_s": {"doc": "student steps per turn", "lo": 1},
    "images_s": {
        "doc": "the student's images: new = new ones in every step; before, after = in all steps of a turn the images of its "
        "last generator step, as the generator draws them before or after that step",
        "choices": ("new", "before", "after"),
    },
    "mode_g": {
        "doc": "mode of the generator when it draws the student's images; train = BatchNorm uses the statistics of the batch",
        "choices": ("train", "eval"),
    },
    "beta_g": {"doc": "beta1 of the generator's Adam", "lo": 0, "hi": 0.999},
    "schedule_g": {"doc": f"learning rate of the generator over all rounds: {schedules.MEANING}", "choices": schedules.NAMES},
    "schedule_s": {"doc": f"learning rate of the student over all rounds: {schedules.MEANING}", "choices": schedules.NAMES},
    "clip_g": {"doc": "maximum gradient norm of the generator (0 = no limit)", "lo": 0},
    "collect": {"doc": "share of the rounds, counted from the end, from which images are kept", "above": 0, "hi": 1},
}


def field(name: str, default):
    """A config field of alternating training, with a method's own default."""
    return opt(default, **FIELDS[name])


@dataclass
class AlternatingOptions(online_student.StudentOptions, generator.GeneratorOptions, TransferConfig):
    """The fields whose default these methods share; the others are those of ``field``, here and in ``online_student``."""

    n: int = samples(24000)
    batch: int = batch_size(500)
    rounds: int = opt(100, "rounds of `turns` turns; images are collected and progress is saved once per round", lo=1)
    turns: int = opt(50, "turns per round; a turn is `steps_g` generator steps, then `steps_s` student steps", lo=1)
    steps_g: int = opt(1, "generator steps per turn", lo=1)
    train_batch: int = opt(256, "images per step of the generator or the student", lo=2)
    lr_g: float = opt(1e-3, "peak learning rate of the generator (Adam)", above=0, hi=10)
    average_g: float = opt(
        0.0, "decay of a moving average of the generator's weights; the student also learns from the average's images "
        "(MAD: 0.95; 0 = none)", lo=0, hi=0.9999,
    )  # fmt: skip
    view_s: str = online_student.field("view_s", "none")
    precision: str = precision_field()

    def max_shards(self) -> int:
        """One: a round needs all rounds before it."""
        return 1

    def training_steps(self) -> int:
        """Of the generator and of the student in each turn."""
        return self.rounds * self.turns * (self.steps_g + getattr(self, "steps_s", 0))

    def images_held(self) -> int:
        """The images that are collected."""
        return self.n
