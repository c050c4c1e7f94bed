"""A student trained inside a synthesis method, step by step, on images that the method makes or keeps."""

import contextlib
import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from ...models import hooks
from ...models import registry as model_registry
from ...models.classifier import new_classifier
from ...runtime.device import autocast, compiled
from ...runtime.errors import UserError
from ...runtime.seeds import seed_of
from ...schemas.fields import opt
from ...schemas.groups import OPTIMIZER, OPTIMIZERS
from ...storage import checkpoint
from ...training import loop, losses, views


@dataclass
class LearnerConfig:
    """The fields that a method's config needs for its student."""

    student: str = opt(
        "lenet5-half", "architecture of the online student", choices=model_registry.names, code=model_registry.code_of
    )
    loss_s: str = opt("kd", "what the student minimises: kd at temperature tau, or l1 on logits", choices=("kd", "l1"))
    tau: float = opt(20.0, "temperature of kd", above=0, hi=1000)
    attention_s: float = opt(0.0, "weight of attention transfer in the student's loss: maps of equal size (0 = off)", lo=0)
    view_s: str = opt("none", "view that the student learns from, drawn anew each step", choices=tuple(views.VIEWS))
    optimizer_s: str = opt("sgd", OPTIMIZER, choices=OPTIMIZERS)
    lr_s: float = opt(0.1, "peak learning rate of the student; half a cosine over all rounds", above=0, hi=100)
    weight_decay_s: float = opt(5e-4, "of the student, on weights of two or more dimensions", lo=0, hi=1)
    clip_s: float = opt(0.0, "largest gradient norm of the student (0 = no limit)", lo=0)


class Learner:
    """The student of a method: network, optimiser, and a place on the schedule."""

    def __init__(self, config, teacher, device):
        self.config, self.teacher = config, teacher
        made = new_classifier(config.student, teacher.description, seed_of(config.method, config.seed, "student"))
        self.net = made.to(device, memory_format=torch.channels_last).eval()
        if not config.attention_s:  # else its layers are listened to
            compiled(self.net)
        plan = SimpleNamespace(optimizer=config.optimizer_s, lr=config.lr_s, weight_decay=config.weight_decay_s)
        self.optimizer, self.steps = loop.optimizer(self.net, plan), 0

    def step(self, images, progress: float, rng, weights=None):
        """One step on views of images (N,C,H,W); ``progress``: the share of the whole training that is done, in [0,1).

        generator: draws the views. weights (N): factors of the samples' losses. Returns the losses (N), detached, unweighted, and
        without that of attention.
        """
        self._train("dropout")
        self.steps += 1
        images = views.view(self.config.view_s, images, rng)
        with autocast(images.device, self.config.precision), self._looking() as maps:
            with torch.no_grad():
                asked = self.teacher(images).float()
            answered = self.net(images).float()
        each = losses.l1_each(answered, asked) if self.config.loss_s == "l1" else losses.kd_each(answered, asked, self.config.tau)
        whole = each + self.config.attention_s * self._attention(*maps) if maps else each
        loss = (whole if weights is None else whole * weights).mean()
        lr = loop.half_cosine(self.config.lr_s, progress)
        loop.advance(self.net, self.optimizer, loss, lr, self.config.clip_s)
        self.net.eval()
        return each.detach()

    @contextlib.contextmanager
    def _looking(self):
        """Yields the feature maps of student and teacher, by size, as they are after a pass; none where none are compared."""
        with contextlib.ExitStack() as stack:
            compared = (self.net, self.teacher) if self.config.attention_s else ()
            yield [stack.enter_context(hooks.feature_maps(net)) for net in compared]

    def _attention(self, own: dict, others: dict):
        """The loss of attention (N), summed over the sizes that both have."""
        sizes = own.keys() & others.keys()
        if not sizes:
            raise UserError(
                f"transfer: {self.config.method}: attention_s: {self.config.student} and the teacher have no feature maps of "
                "one size; set attention_s: 0, or take another student"
            )
        return sum(losses.attention(own[size], others[size]) for size in sorted(sizes))

    def state(self) -> dict:
        """Weights, moments and the number of steps."""
        return {**checkpoint.state_of(self.net, self.optimizer), "steps": self.steps}

    def restore(self, state: dict):
        """Go on from ``state``."""
        checkpoint.restore(self.net, self.optimizer, state)
        self.steps = state["steps"]

    @contextlib.contextmanager
    def frozen(self, mode: str = "eval"):
        """The student without gradients to its weights, for a loss that reaches through it to the images.

        mode 'train': with the statistics of the batch, which also move its running ones, and with dropout.
        """
        self.net.eval().requires_grad_(False)
        if mode == "train":
            self._train("looked through")
        try:
            yield self.net
        finally:
            self.net.eval().requires_grad_(True)

    def _train(self, what: str):
        """Into train mode."""
        self.net.train()
        # What dropout draws must not depend on what this process drew before, or a resumed run would be another.
        torch.manual_seed(seed_of(self.config.method, self.config.seed, what, self.steps))


def require_finite(value, what: str, remedy: str):
    """Raise UserError unless a loss that was computed is a finite number."""
    if not math.isfinite(value):
        raise UserError(f"{what}: the loss is {value}; {remedy}")
