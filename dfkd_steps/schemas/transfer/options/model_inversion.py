"""The config fields of rounds of model inversion (``engines.model_inversion``)."""

from dataclasses import dataclass

from ...choices import VIEWS, precision_field
from ...fields import opt
from ..base import TransferConfig, batch_size
from . import online_student, stored_answers


@dataclass
class InversionOptions(stored_answers.StoredAnswerOptions, online_student.SGDOptions, TransferConfig):
    """The fields that these methods share, but for ``n``."""

    batch: int = batch_size(256, lo=2)
    rounds: int = opt(220, "rounds; each makes a batch of images, then takes student steps", lo=1)
    warmup: int = opt(20, "rounds at the start without a student and without the losses that need one", lo=0)
    steps_s: int = opt(400, "student steps per round", lo=1)
    batch_s: int = opt(256, "images per student step", lo=2)
    loss_s: str = online_student.field("loss_s", "kd")
    tau: float = online_student.field("tau", 20.0)
    view_s: str = online_student.field("view_s", "flip-crop")
    lr_s: float = online_student.field("lr_s", 0.2)
    weight_decay_s: float = online_student.field("weight_decay_s", 1e-4)
    view: str = opt("flip-crop", "augmentation of the images being optimised, redrawn in every step", choices=VIEWS)
    precision: str = precision_field()

    def max_shards(self) -> int:
        """One: a round needs all rounds before it."""
        return 1

    def training_steps(self) -> int:
        """Of the images in each round, and of the student after the warm-up."""
        batches = sum(map(self.batches_of, range(self.rounds)))
        return batches * self.steps_of_batch() + (self.rounds - self.warmup) * self.steps_s

    def images_held(self) -> int:
        """The pool."""
        return self.n

    def batches_of(self, index: int) -> int:
        """The batches of images that round ``index`` makes."""
        return 1

    def check(self):
        images = sum(map(self.batches_of, range(self.rounds))) * self.batch
        if self.batch > self.n:
            return f"batch: {self.batch} is more than n: {self.n}, the size of the pool; lower batch or raise n"
        if images < self.n:
            return (
                f"n: {self.n} is more than the {images} images of {self.rounds} rounds of {self.batch}; lower n or raise rounds"
            )
        if self.warmup >= self.rounds:
            return f"warmup: {self.warmup} leaves no round for the student; lower it or raise rounds"
        return self.fault_of_views()

    def progress(self, index: int, step: int) -> float:
        """The share of the student's training that is done at a step of round ``index``, in [0,1)."""
        return (index - self.warmup + step / self.steps_s) / (self.rounds - self.warmup)


def pool_samples(default: int):
    """The config field ``n``."""
    return opt(default, "samples, the size of the pool", lo=1)
