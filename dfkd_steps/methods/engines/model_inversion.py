"""Rounds of model inversion (ADI, CMI, Fast, NAYER, SSD-KD): batches of images into a pool, then student steps on the pool.

A method puts together an inverter (``generator_inversion``, ``label_inversion``, ``pixel_inversion``), the pool with its
replacement rule (``image_pool``), a sampler (``samplers``) and the student (``online_student``); its ``round`` stands in its
own file.
"""

import torch

from .objective import require_finite

FAST_FLOOR = 1e-3  # of the student's peak rate: 2e-4 of 0.2 in the public code of Fast


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
