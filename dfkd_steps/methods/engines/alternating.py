"""An engine: one generator that plays with or against a student, step by step (DAFL, ZSKT, DFAD, DFQ).

The methods differ in the losses of the generator, in how many steps each side takes, and in whether the student sees
new images each step.
"""

from dataclasses import dataclass

import torch

from ...models.generator import build_generator
from ...runtime.device import autocast, compiled
from ...schemas.fields import opt
from ...storage import checkpoint
from ...training import loop, views
from ..base import Batch, Method, TransferConfig
from . import objective
from .generator_options import GeneratorOptions
from .image_pool import ImagePool
from .online_student import Learner, LearnerConfig, require_finite


@dataclass
class GameConfig(LearnerConfig, GeneratorOptions, TransferConfig):
    """The fields that these methods share."""

    rounds: int = opt(100, "rounds of `turns` turns; images are collected and progress is saved by rounds", lo=1)
    turns: int = opt(50, "turns in a round: generator steps, then student steps", lo=1)
    steps_g: int = opt(1, "generator steps in a turn", lo=1)
    steps_s: int = opt(5, "student steps in a turn", lo=1)
    same: bool = opt(False, "all student steps of a turn on the images of the turn's last generator step")
    train_batch: int = opt(256, "images in a step of either side", lo=2)
    lr_g: float = opt(1e-3, "peak learning rate of the generator (Adam); half a cosine over all rounds", above=0, hi=10)
    clip_g: float = opt(0.0, "largest gradient norm of the generator (0 = no limit)", lo=0)
    collect: float = opt(0.5, "images are kept from this share of the rounds, the last ones", above=0, hi=1)
    precision: str = opt("fp32", "bf16 = autocast", choices=("fp32", "bf16"))

    def pieces(self) -> int:
        """One: a round needs all rounds before it."""
        return 1


class Game(Method):
    """Plays all rounds, keeps ``n`` images evenly from the last of them, and leaves the generator and the student."""

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.rounds = config.rounds
        self.objective = objective.Objective(config, teacher)
        seed = self.seed_of("generator")
        made = build_generator(teacher.description, latent=config.latent, width=config.width, head=config.head, seed=seed)
        self.generator = compiled(made.to(device, memory_format=torch.channels_last))
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=config.lr_g, betas=(0.5, 0.999), fused=True)
        self.learner = Learner(config, teacher, device)
        self.pool = ImagePool(config.n, teacher.description.image_shape, device)

    def make(self, rng):
        """A batch of images with its graph to the generator's weights."""
        latent, _ = self.generator.draw(self.config.train_batch, rng)
        with autocast(self.device, self.config.precision):
            return self.generator(latent)

    def round(self, index: int):
        """``turns`` turns of both sides."""
        config, rng = self.config, self.rng("round", index)
        played, sums = index * config.turns, torch.zeros(2, device=self.device)
        for turn in range(config.turns):
            progress = (played + turn) / (config.rounds * config.turns)
            lost_g, images = self.generate(rng, progress)
            for _ in range(config.steps_s):
                if not config.same:
                    with torch.no_grad():
                        images = self.make(rng)
                lost_s = self.learner.step(images, progress, rng).mean()
            sums += torch.stack([lost_g, lost_s])
        lost_g, lost_s = (sums / config.turns).tolist()
        require_finite(lost_g + lost_s, f"{config.method}: round {index + 1}", "lower lr_g or lr_s, or set clip_g and clip_s")
        self.collect(index, rng)
        return f"generator {lost_g:.4f}, student {lost_s:.4f}"

    def generate(self, rng, progress: float):
        """``steps_g`` steps of the generator; returns its last loss and the images of that step, detached."""
        self.generator.train()
        mode = self.config.mode_s if self.objective.student_wanted else "eval"
        for _ in range(self.config.steps_g):
            images = self.make(rng)
            with self.learner.frozen(mode) as student:
                loss = self.objective(views.view(self.config.view, images, rng), None, student)
            loop.advance(self.generator, self.optimizer, loss, loop.half_cosine(self.config.lr_g, progress), self.config.clip_g)
        return loss.detach(), images.detach()

    def collect(self, index: int, rng):
        """This round's share of the images that are kept."""
        kept_rounds = max(1, round(self.config.collect * self.config.rounds))
        place = index - (self.config.rounds - kept_rounds)
        if place < 0:
            return
        missing = (place + 1) * self.config.n // kept_rounds - place * self.config.n // kept_rounds
        while missing > 0:
            with torch.no_grad():
                images = self.make(rng)[:missing]
            self.pool.add(images, index)
            missing -= len(images)

    def batch(self, index: int) -> Batch:
        """The next of the images that were kept."""
        rows = torch.tensor(self.rows(index), device=self.device)
        return Batch(self.pool.read(rows), generation=self.pool.generation[rows].cpu())

    def networks(self) -> dict:
        """The generator and the student as they are after the last round."""
        return {"generator": self.generator, "student": self.learner.net}

    def state(self) -> dict:
        """Both networks, their moments, the images kept."""
        generator = checkpoint.state_of(self.generator, self.optimizer)
        return {"generator": generator, "learner": self.learner.state(), "pool": self.pool.state()}

    def restore(self, state: dict):
        """Go on from ``state``."""
        checkpoint.restore(self.generator, self.optimizer, state["generator"])
        self.learner.restore(state["learner"])
        self.pool.restore(state["pool"])
