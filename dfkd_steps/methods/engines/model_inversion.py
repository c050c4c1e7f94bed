"""Rounds of model inversion (ADI, CMI, Fast, NAYER, SSD-KD): batches of images into a pool, then student steps on the pool.

A method puts together an inverter (``generator_inversion``, ``label_inversion``, ``pixel_inversion``), the pool with its
replacement rule (``image_pool``), a sampler (``samplers``) and the student (``online_student``); its ``round`` stands in its
own file.
"""

from dataclasses import dataclass

import torch

from ...schemas.fields import opt
from ...training import views
from ..base import TransferConfig, batch_size
from . import online_student, stored_answers
from .objective import require_finite

FAST_FLOOR = 1e-3  # of the student's peak rate: 2e-4 of 0.2 in the public code of Fast


@dataclass
class InversionOptions(stored_answers.StoredAnswerOptions, online_student.SGDOptions, TransferConfig):
    """The fields that these methods share, but for ``n``."""

    batch: int = batch_size(256, lo=2)
    rounds: int = opt(220, "rounds: a batch of images, then student steps", lo=1)
    warmup: int = opt(20, "rounds at the start without student and without the losses that need it", lo=0)
    steps_s: int = opt(400, "student steps in a round", lo=1)
    batch_s: int = opt(256, "images in a student step", lo=2)
    loss_s: str = online_student.field("loss_s", "kd")
    tau: float = online_student.field("tau", 20.0)
    view_s: str = online_student.field("view_s", "flip-crop")
    lr_s: float = online_student.field("lr_s", 0.2)
    weight_decay_s: float = online_student.field("weight_decay_s", 1e-4)
    view: str = opt("flip-crop", "augmentation of images in the making, drawn anew each step", choices=tuple(views.VIEWS))
    precision: str = opt("fp32", "bf16 = autocast, where the device computes in it", choices=("fp32", "bf16"))

    def max_shards(self) -> int:
        """One: a round needs all rounds before it."""
        return 1

    def batches_of(self, index: int) -> int:
        """The batches of images that round ``index`` makes."""
        return 1

    def check(self):
        images = sum(map(self.batches_of, range(self.rounds))) * self.batch
        if self.batch > self.n:
            return f"batch: {self.batch} is more than the n: {self.n} places of the pool; lower batch or raise n"
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
    return opt(default, "samples: places of the pool", lo=1)


def random_targets(method, rng):
    """Random labels (B) for a batch."""
    classes = method.teacher.description.num_classes
    return torch.randint(0, classes, (method.config.batch,), generator=rng, device=method.device)


def train_student(student, sampler, index: int, rng, answers=None, exchanged=None) -> dict[str, float]:
    """``steps_s`` steps of a student in round ``index`` on images that a sampler draws from its pool; returns its figures.
    answers: a ``StoredAnswers``, or None to ask the teacher in each step. exchanged: an ``ExchangedImages`` that makes the
    images, or None to take those of the pool."""
    config = student.config
    if answers:
        answers.refresh(rng, config.batch_s)
    for step in range(config.steps_s):
        rows, weights = sampler.draw(config.batch_s, rng)
        if answers:
            images, logits = answers.batch(rows, rng)
            losses = student.step(images, config.progress(index, step), rng, weights, (logits, None))
        else:
            images = exchanged.images(rows, rng) if exchanged else sampler.pool.read(rows)
            losses = student.step(images, config.progress(index, step), rng, weights)
        sampler.update(rows, weights, losses)
    figures = student.figures()
    require_finite(figures["loss"], f"{config.method}: round {index + 1}", "lower lr_s, or set clip_s")
    return figures
