"""Alternating training of one generator and a student, step by step (DAFL, ZSKT, DFAD, DFQ).

The methods differ in the losses of the generator, in how many steps each side takes, and in whether the student trains
on new images each step: their configs say all that, the round below is theirs.
"""

from dataclasses import dataclass

import torch

from ...models.generator import build_generator
from ...runtime.device import autocast, compiled
from ...schemas.fields import opt
from ...storage import checkpoint
from ...training import loop, views
from ..base import Batch, Method, TransferConfig, batch_size, samples
from . import objective, online_student
from .generator_options import GeneratorOptions
from .image_pool import ImagePool

FIELDS = {
    "steps_s": {"doc": "student steps in a turn", "lo": 1},
    "same": {"doc": "all student steps of a turn on the images of the turn's last generator step"},
    "clip_g": {"doc": "largest gradient norm of the generator (0 = no limit)", "lo": 0},
    "collect": {"doc": "images are kept from this share of the rounds, the last ones", "above": 0, "hi": 1},
}


def field(name: str, default):
    """A config field of alternating training, with a method's own default."""
    return opt(default, **FIELDS[name])


@dataclass
class AlternatingOptions(online_student.StudentOptions, GeneratorOptions, TransferConfig):
    """The fields whose default these methods share; the others are those of ``field``, here and in ``online_student``."""

    n: int = samples(24000)
    batch: int = batch_size(500)
    rounds: int = opt(100, "rounds of `turns` turns; images are collected and progress is saved by rounds", lo=1)
    turns: int = opt(50, "turns in a round: generator steps, then student steps", lo=1)
    steps_g: int = opt(1, "generator steps in a turn", lo=1)
    train_batch: int = opt(256, "images in a step of either side", lo=2)
    lr_g: float = opt(1e-3, "peak learning rate of the generator (Adam); half a cosine over all rounds", above=0, hi=10)
    view_s: str = online_student.field("view_s", "none")
    precision: str = opt("fp32", "bf16 = autocast, where the device computes in it", choices=("fp32", "bf16"))

    def max_shards(self) -> int:
        """One: a round needs all rounds before it."""
        return 1


class GeneratorTraining:
    """The generator with its optimiser."""

    def __init__(self, config, teacher, objective, seed: int, device):
        self.config, self.objective, self.device = config, objective, device
        net = build_generator(teacher.description, latent=config.latent, width=config.width, head=config.head, seed=seed)
        self.net = compiled(net.to(device, memory_format=torch.channels_last))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.lr_g, betas=(0.5, 0.999), fused=True)

    def images(self, rng):
        """``train_batch`` new images (N,C,H,W) with their graph to the generator's weights."""
        latent, _ = self.net.draw(self.config.train_batch, rng)
        with autocast(self.device, self.config.precision):
            return self.net(latent)

    def steps(self, student, progress: float, rng):
        """``steps_g`` steps down the objective; returns the last loss and the images of that step, detached.

        student: an ``OnlineStudent``. progress: the share of the training that is done, in [0,1).
        """
        config = self.config
        mode = config.mode_s if self.objective.needs_student else "eval"
        self.net.train()
        for _ in range(config.steps_g):
            images = self.images(rng)
            with student.frozen(mode) as student_net:
                loss = self.objective(views.view(config.view, images, rng), None, student_net)
            loop.advance(self.net, self.optimizer, loss, loop.half_cosine(config.lr_g, progress), config.clip_g)
        return loss.detach(), images.detach()

    def state(self) -> dict:
        """Weights and moments."""
        return checkpoint.state_of(self.net, self.optimizer)

    def restore(self, state: dict):
        """Go on from ``state``."""
        checkpoint.restore(self.net, self.optimizer, state)


class AlternatingTraining(Method):
    """Trains for all rounds, keeps ``n`` images evenly from the last of them, and leaves the generator and the student."""

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.rounds = config.rounds
        self.objective = objective.Objective(config, teacher)
        self.generator = GeneratorTraining(config, teacher, self.objective, self.seed_of("generator"), device)
        self.student = online_student.OnlineStudent(config, teacher, device)
        self.pool = ImagePool(config.n, teacher.description.image_shape, device)
        self.parts = {"generator": self.generator, "student": self.student, "pool": self.pool}

    def round(self, index: int):
        """``turns`` times: generator steps, then student steps; then this round's share of the images that are kept."""
        config = self.config
        rng = self.rng("round", index)
        sums = torch.zeros(2, device=self.device)
        for turn in range(config.turns):
            progress = (index * config.turns + turn) / (config.rounds * config.turns)
            generator_loss, images = self.generator.steps(self.student, progress, rng)
            for _ in range(config.steps_s):
                if not config.same:
                    with torch.no_grad():
                        images = self.generator.images(rng)
                student_loss = self.student.step(images, progress, rng).mean()
            sums += torch.stack([generator_loss, student_loss])
        generator_loss, student_loss = (sums / config.turns).tolist()
        objective.require_finite(
            generator_loss + student_loss,
            f"{config.method}: round {index + 1}",
            "lower lr_g or lr_s, or set clip_g and clip_s",
        )
        self.collect(index, rng)
        return f"generator {generator_loss:.4f}, student {student_loss:.4f}"

    def collect(self, index: int, rng):
        """Put this round's share of the images that are kept into the pool."""
        kept_rounds = max(1, round(self.config.collect * self.config.rounds))
        place = index - (self.config.rounds - kept_rounds)
        if place < 0:
            return
        missing = (place + 1) * self.config.n // kept_rounds - place * self.config.n // kept_rounds
        while missing > 0:
            with torch.no_grad():
                images = self.generator.images(rng)[:missing]
            self.pool.add(images, index)
            missing -= len(images)

    def batch(self, index: int) -> Batch:
        """The next of the images that were kept."""
        return self.pool.batch(self.rows(index))

    def networks(self) -> dict:
        """The generator and the student as they are after the last round."""
        return {"generator": self.generator.net, "student": self.student.net}
