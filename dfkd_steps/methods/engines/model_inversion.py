"""Rounds of model inversion (ADI, CMI, Fast, NAYER, SSD-KD): batches of images into a pool, then student steps on the pool.

A method adds its inverter (``generator_inversion``, ``label_inversion``, ``pixel_inversion``) and its ``round``; and, where it
has them, exchanged channels (``channel_exchange``), and a sampler (``samplers``) and a replacement rule of its own.
"""

import torch

from ...training import views
from ..base import Batch, Method
from . import objective, stored_answers
from .image_pool import ImagePool
from .online_student import OnlineStudent
from .samplers import UniformSampler

FAST_FLOOR = 1e-3  # 2e-4 of 0.2 in the public code of Fast


class ModelInversion(Method):
    """An objective, a pool whose oldest images are replaced, and a student that draws from it uniformly."""

    floor = 0.0  # of the student's learning rate, as a share of its peak

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.rounds = config.rounds
        watched = bool(getattr(config, "contrastive", 0))  # CMI's discriminator sees the feature maps of the same passes
        self.objective = objective.Objective(config, teacher, getattr(config, "ema", 0.0), hooked=watched)
        self.pool = ImagePool(config.n, teacher.description.image_shape, device)
        self.sampler = UniformSampler(self.pool)
        self.student = OnlineStudent(config, teacher, device, floor=self.floor)
        self.answers = stored_answers.build(config, self.pool, self.student)
        self.exchanged = None
        self.add_parts(objective=self.objective, pool=self.pool, student=self.student, answers=self.answers)

    def add_parts(self, **parts):
        """Parts that rounds change, by name; None: this config has none of the name."""
        self.parts |= {name: part for name, part in parts.items() if part is not None}

    def trains(self, index: int) -> bool:
        """Does the student train in round ``index``? Not in the warm-up."""
        return index >= self.config.warmup

    def random_targets(self, rng):
        """Random labels (B) for a batch."""
        classes = self.teacher.description.num_classes
        return torch.randint(0, classes, (self.config.batch,), generator=rng, device=self.device)

    def forward(self, images, targets, index: int) -> objective.Outputs:
        """The outputs of teacher and student, frozen, for images (B,C,H,W); without the student's in the warm-up."""
        with self.student.frozen() as student:
            return self.objective.forward(images, targets, student if self.trains(index) else None)

    def loss_of(self, targets, index: int, rng):
        """The objective of images (B,C,H,W) for labels (B) in round ``index``, as a function; each call sees a new view."""

        def loss(images):
            outputs = self.forward(views.view(self.config.view, images, rng), targets, index)
            return objective.total(self.objective.terms(outputs))

        return loss

    def train_student(self, index: int, rng) -> dict[str, float] | None:
        """``steps_s`` steps of the student on images that the sampler draws; returns its figures. None in the warm-up."""
        if not self.trains(index):
            return None
        config = self.config
        if self.answers:
            self.answers.refresh(rng, config.batch_s)
        if self.exchanged:
            self.exchanged.take_statistics(len(self.pool))
        for step in range(config.steps_s):
            rows, weights = self.sampler.draw(config.batch_s, rng)
            images, answer = self.student_batch(rows, rng)
            losses = self.student.step(images, config.progress(index, step), rng, weights, answer)
            self.sampler.update(rows, weights, losses)
        if self.answers:
            self.answers.require_finite()
        figures = self.student.figures()
        objective.require_finite(figures["loss"], f"{config.method}: round {index + 1}", "lower lr_s, or set clip_s")
        return figures

    def student_batch(self, rows, rng):
        """What the student trains on for rows (N) of the pool: images (N,C,H,W), and the teacher's answer to them where it is
        stored, else None."""
        if self.answers:
            images, logits = self.answers.batch(rows, rng)
            return images, (logits, None)
        return self.exchanged.images(rows, rng) if self.exchanged else self.pool.read(rows), None

    def batch(self, index: int) -> Batch:
        """The next images of the pool."""
        return self.pool.batch(self.rows(index))

    def networks(self) -> dict:
        """The student after the last round."""
        return {"student": self.student.net}
