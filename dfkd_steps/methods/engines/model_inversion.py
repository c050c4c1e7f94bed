"""An engine: batch after batch of images made from nothing into a pool, and a student trained on the pool
(ADI, CMI, Fast, SSD-KD). The methods differ in how a batch is made."""

from dataclasses import dataclass

import torch

from ...models.generator import build_generator
from ...runtime.device import autocast
from ...schemas.fields import changed, opt
from ...training import views
from ..base import Batch, Method, TransferConfig
from . import objective
from .image_pool import ImagePool
from .online_student import Learner, LearnerConfig, require_finite


@dataclass
class InversionConfig(LearnerConfig, TransferConfig):
    """The fields that these methods share."""

    n: int = opt(20000, "samples: places of the pool, the oldest are replaced", lo=1)
    batch: int = opt(256, "samples that are made together", lo=2)
    rounds: int = opt(220, "rounds: a batch of images, then student steps", lo=1)
    warmup: int = opt(20, "rounds at the start without student and without the losses that need it", lo=0)
    steps_s: int = opt(400, "student steps in a round", lo=1)
    batch_s: int = opt(256, "images in a student step", lo=2)
    lr_s: float = opt(0.2, "peak learning rate of the student; half a cosine over all rounds", above=0, hi=100)
    view: str = opt("flip-crop", "view of images in the making, drawn anew each step", choices=tuple(views.VIEWS))
    view_s: str = changed(LearnerConfig, "view_s", "flip-crop")
    precision: str = opt("fp32", "bf16 = autocast", choices=("fp32", "bf16"))

    def pieces(self) -> int:
        """One: a round needs all rounds before it."""
        return 1

    def check(self):
        made = self.rounds * self.batch
        if self.batch > self.n:
            return f"batch: {self.batch} is more than the n: {self.n} places of the pool; lower batch or raise n"
        if made < self.n:
            return f"n: {self.n} is more than the {made} images of {self.rounds} rounds of {self.batch}; lower n or raise rounds"
        if self.warmup >= self.rounds:
            return f"warmup: {self.warmup} leaves no round for the student; lower it or raise rounds"
        return None


class Inversion(Method):
    """``invert`` makes a batch; all else is the same for these methods."""

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.rounds = config.rounds
        self.objective = objective.Objective(config, teacher)
        self.learner = Learner(config, teacher, device)
        self.pool = ImagePool(config.n, teacher.description.image_shape, device)

    def invert(self, index: int, rng):
        """A batch of images (B,C,H,W), detached; ``generator``: source of all that is random in this round."""
        raise TypeError(f"{type(self).__name__} has no invert()")

    def warm(self, index: int) -> bool:
        """Is the student there yet in this round?"""
        return index >= self.config.warmup

    def wanted(self, rng):
        """Random labels (B)."""
        classes = self.teacher.description.num_classes
        return torch.randint(0, classes, (self.config.batch,), generator=rng, device=self.device)

    def terms(self, images, wanted, index: int) -> dict:
        """The weighted losses of a batch; those that need a student only once it is there."""
        with self.learner.frozen() as student:
            made = self.objective.terms(self.objective.look(images, wanted, student))
        return self.without_student(made, index)

    def without_student(self, terms: dict, index: int) -> dict:
        """The losses that count in a round: as long as there is no student, not those that need one."""
        return terms if self.warm(index) else {name: terms[name] for name in terms if name not in objective.NEEDS_STUDENT}

    def round(self, index: int):
        """A batch into the pool, then the student's steps."""
        rng = self.rng("round", index)
        self.pool.add(self.invert(index, rng), index)
        return self.study(index, rng) if self.warm(index) else None

    def study(self, index: int, rng):
        """``steps_s`` student steps on views of random images of the pool."""
        config, summed = self.config, torch.zeros((), device=self.device)
        for step in range(config.steps_s):
            summed += self.learn(self.pool.draw(config.batch_s, rng), self.progress(index, step), rng).mean()
        return f"student {self.checked(summed.item() / config.steps_s, index):.4f}"

    def checked(self, loss: float, index: int) -> float:
        """The student's loss in a round; raises UserError where it is no finite number."""
        require_finite(loss, f"{self.config.method}: round {index + 1}", "lower lr_s, or set clip_s")
        return loss

    def learn(self, rows, progress: float, rng, weights=None):
        """One student step on views of rows of the pool; returns the losses (N)."""
        return self.learner.step(self.pool.read(rows), progress, rng, weights)

    def progress(self, index: int, step: int) -> float:
        """The share of the student's training that is done, in [0,1)."""
        config = self.config
        return (index - config.warmup + step / config.steps_s) / (config.rounds - config.warmup)

    def batch(self, index: int) -> Batch:
        """The next images of the pool."""
        rows = torch.tensor(self.rows(index), device=self.device)
        return Batch(self.pool.read(rows), generation=self.pool.generation[rows].cpu())

    def networks(self) -> dict:
        """The student as it is after the last round."""
        return {"student": self.learner.net}

    def state(self) -> dict:
        """The student, its moments, the pool."""
        return {"learner": self.learner.state(), "pool": self.pool.state()}

    def restore(self, state: dict):
        """Go on from ``state``."""
        self.learner.restore(state["learner"])
        self.pool.restore(state["pool"])


def new_generator(method, *parts):
    """A generator as CMI and Fast use it, freshly initialised from the method's seed and ``parts``."""
    config, seed = method.config, method.seed_of("generator", *parts)
    made = build_generator(method.teacher.description, latent=config.latent, width=config.width, seed=seed)
    return made.to(method.device, memory_format=torch.channels_last).train()


def refine(generator, latent, loss_of, *, steps: int, lr_g: float, lr_z: float, precision: str, further=(), after=None):
    """Generator and latent vectors (N,Z) moved together for ``steps`` steps (CMI, Fast); returns the images of the
    step with the least loss, detached.

    loss_of(images) -> scalar. further: parameters that are trained along. after(step): called with gradients in place.
    """
    latent = latent.clone().requires_grad_()
    groups = [{"params": [*generator.parameters(), *further], "lr": lr_g}, {"params": [latent], "lr": lr_z}]
    adam = torch.optim.Adam(groups, betas=(0.5, 0.999), fused=True)
    best, least = None, torch.full((), float("inf"), device=latent.device)
    for step in range(steps):
        with autocast(latent.device, precision):
            images = generator(latent)
        loss = loss_of(images)
        better = loss.detach() < least
        # Chosen on the device: asking which is better would wait for it each step.
        best = images.detach().clone() if best is None else torch.where(better, images.detach(), best)
        least = torch.minimum(least, loss.detach())
        adam.zero_grad()
        loss.backward()
        if after:
            after(step)
        adam.step()
    require_finite(least.item(), "inversion", "lower lr_g and lr_z")
    return best
