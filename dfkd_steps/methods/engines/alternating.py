"""Alternating training of one generator and a student, step by step (DAFL, ZSKT, DFAD, DFQ).

The methods differ in the losses of the generator, in how many steps each side takes, and in the images that the student
trains on: their configs say all that, the round below is theirs.
"""

import copy

import torch

from ...models.generator import build_generator
from ...runtime.device import autocast, compiled, kept
from ...storage import checkpoint
from ...training import loop, views
from ..base import Batch, Method
from . import objective, online_student
from .image_pool import ImagePool
from .schedules import rate


class GeneratorTraining:
    """The generator with its optimiser."""

    def __init__(self, config, teacher, objective, seed: int, device):
        self.config, self.objective, self.device = config, objective, device
        net = build_generator(teacher.description, latent=config.latent, width=config.width, arch=config.arch_g, seed=seed)
        net = net.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(net).requires_grad_(False) if config.average_g else None
        self.net = compiled(net)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.lr_g, betas=(config.beta_g, 0.999), fused=True)

    def latent(self, rng):
        """Latent vectors of ``train_batch`` images."""
        return self.net.draw(self.config.train_batch, rng)[0]

    def images(self, latent):
        """Images (N,C,H,W) of latent vectors, with their graph to the generator's weights."""
        with autocast(self.device, self.config.precision):
            return self.net(latent)

    def images_for_student(self, latent):
        """Images (N,C,H,W) of latent vectors, without a graph; the generator in the mode ``mode_g``."""
        self.net.train(self.config.mode_g == "train")
        with torch.no_grad():
            return kept(self.images(latent))

    def beside(self, images, rng):
        """Images (N,C,H,W) for the student; where there is a moving average of the generator, as many new ones of it follow."""
        if self.average is None:
            return images
        self.average.train(self.config.mode_g == "train")
        with torch.no_grad(), autocast(self.device, self.config.precision):
            return torch.cat([images, self.average(self.latent(rng))])

    def _move_average(self):
        """One step of the moving average (MAD, arXiv 2209.10359); BatchNorm's statistics are those of the generator."""
        with torch.no_grad():
            for kept, now in zip(self.average.parameters(), self.net.parameters()):
                kept.lerp_(now, 1 - self.config.average_g)
            for kept, now in zip(self.average.buffers(), self.net.buffers()):
                kept.copy_(now)

    def steps(self, student, progress: float, rng):
        """``steps_g`` steps down the objective; returns the last loss, and of that step the latent vectors and the images,
        detached.

        student: an ``OnlineStudent``. progress: the share of the training that is done, in [0,1).
        """
        config = self.config
        mode = config.mode_s if self.objective.needs_student else "eval"
        self.net.train()
        for _ in range(config.steps_g):
            latent = self.latent(rng)
            images = self.images(latent)
            last = kept(images.detach())
            with student.frozen(mode) as student_net:
                loss = self.objective(views.view(config.view, images, rng), None, student_net)
            loop.advance(self.net, self.optimizer, loss, rate(config.schedule_g, config.lr_g, progress), config.clip_g)
            if self.average is not None:
                self._move_average()
        return loss.detach(), latent, last

    def state(self) -> dict:
        """Weights and moments, and the moving average."""
        average = {} if self.average is None else {name: value.clone() for name, value in self.average.state_dict().items()}
        return {**checkpoint.state_of(self.net, self.optimizer), "average": average}

    def restore(self, state: dict):
        """Go on from ``state``."""
        checkpoint.restore(self.net, self.optimizer, state)
        if self.average is not None:
            self.average.load_state_dict(state["average"])


class AlternatingTraining(Method):
    """Trains for all rounds, keeps ``n`` images evenly from the last of them, and leaves the generator and the student."""

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.rounds = config.rounds
        self.objective = objective.Objective(config, teacher)
        self.generator = GeneratorTraining(config, teacher, self.objective, self.seed_of("generator"), device)
        self.student = online_student.OnlineStudent(config, teacher, device, config.schedule_s)
        self.pool = ImagePool(config.n, teacher.description.image_shape, device)
        self.parts = {"generator": self.generator, "student": self.student, "pool": self.pool}

    def round(self, index: int):
        """``turns`` times: generator steps, then student steps; then this round's share of the images that are kept."""
        config = self.config
        rng = self.rng("round", index)
        summed = torch.zeros((), device=self.device)
        for turn in range(config.turns):
            progress = (index * config.turns + turn) / (config.rounds * config.turns)
            generator_loss, latent, images = self.generator.steps(self.student, progress, rng)
            self.student_steps(latent, images, progress, rng)
            summed += generator_loss
        figures = {**self.student.figures(), "generator": summed.item() / config.turns}
        objective.require_finite(
            figures["loss"] + figures["generator"],
            f"{config.method}: round {index + 1}",
            "lower lr_g or lr_s, or set clip_g and clip_s",
        )
        self.collect(index, rng)
        return figures

    def student_steps(self, latent, images, progress: float, rng):
        """``steps_s`` student steps in a turn, whose last generator step was on ``images`` of ``latent``."""
        config, answer = self.config, None
        if config.images_s == "after":
            images = self.generator.images_for_student(latent)
        if config.images_s != "new":
            images = self.generator.beside(images, rng)
        if config.images_s != "new" and config.view_s == config.mix_s == "none":
            answer = self.student.ask_teacher(images)  # once for all steps, as all are on the same images
        for _ in range(config.steps_s):
            if config.images_s == "new":
                images = self.generator.beside(self.generator.images_for_student(self.generator.latent(rng)), rng)
            self.student.step(images, progress, rng, answer=answer)

    def collect(self, index: int, rng):
        """Put this round's share of the images that are kept into the pool."""
        kept_rounds = max(1, round(self.config.collect * self.config.rounds))
        place = index - (self.config.rounds - kept_rounds)
        if place < 0:
            return
        missing = (place + 1) * self.config.n // kept_rounds - place * self.config.n // kept_rounds
        while missing > 0:
            images = self.generator.images_for_student(self.generator.latent(rng))[:missing]
            self.pool.add(images, index)
            missing -= len(images)

    def batch(self, index: int) -> Batch:
        """The next of the images that were kept."""
        return self.pool.batch(self.rows(index))

    def networks(self) -> dict:
        """The generator and the student as they are after the last round."""
        return {"generator": self.generator.net, "student": self.student.net}
