"""A student trained inside a synthesis method, step by step, on images that the method makes or keeps."""

import contextlib
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from ...models import hooks, names
from ...models.classifier import new_classifier
from ...runtime.device import autocast, compiled
from ...runtime.errors import UserError
from ...runtime.seeds import seed_of
from ...schemas.fields import opt
from ...schemas.groups import ARCH, OPTIMIZER, OPTIMIZERS
from ...storage import checkpoint
from ...training import loop, losses, views

FIELDS = {
    "loss_s": {"doc": "loss of the student: kd at temperature tau, or l1 on logits", "choices": ("kd", "l1")},
    "tau": {"doc": "temperature of kd", "above": 0, "hi": 1000},
    "attention_s": {"doc": "weight of attention transfer in the student's loss: maps of equal size (0 = off)", "lo": 0},
    "view_s": {"doc": "augmentation of the student's images, drawn anew each step", "choices": tuple(views.VIEWS)},
    "optimizer_s": {"doc": OPTIMIZER, "choices": OPTIMIZERS},
    "lr_s": {"doc": "peak learning rate of the student; half a cosine over all rounds", "above": 0, "hi": 100},
    "weight_decay_s": {"doc": "of the student, on weights of two or more dimensions", "lo": 0, "hi": 1},
    "clip_s": {"doc": "largest gradient norm of the student (0 = no limit)", "lo": 0},
}


def field(name: str, default):
    """A config field of a student, with a method's own default."""
    return opt(default, **FIELDS[name])


@dataclass
class StudentOptions:
    """The field of a student whose default no method changes."""

    student: str = opt(
        "lenet5-half", f"the online student, {ARCH} or factory.MODULE.FUNCTION", choices=names.Networks, code=names.code_of,
        external="network",
    )  # fmt: skip


@dataclass
class SGDOptions(StudentOptions):
    """A student as most methods train it; without the fields whose default differs among those."""

    tau: float = field("tau", 20.0)
    attention_s: float = field("attention_s", 0.0)
    optimizer_s: str = field("optimizer_s", "sgd")
    weight_decay_s: float = field("weight_decay_s", 5e-4)
    clip_s: float = field("clip_s", 0.0)


class OnlineStudent:
    """The student of a method: network, optimiser, and a place on the schedule."""

    def __init__(self, config, teacher, device):
        self.config, self.teacher = config, teacher
        net = new_classifier(config.student, teacher.description, seed_of(config.method, config.seed, "student"))
        self.net = net.to(device, memory_format=torch.channels_last).eval()
        if not config.attention_s:  # hooks on its layers do not go with a compiled network
            compiled(self.net)
        settings = SimpleNamespace(optimizer=config.optimizer_s, lr=config.lr_s, weight_decay=config.weight_decay_s)
        self.optimizer = loop.optimizer(self.net, settings)
        self.steps = 0

    def step(self, images, progress: float, rng, weights=None):
        """One step on augmented images (N,C,H,W); ``progress``: the share of the whole training that is done, in [0,1).

        rng: of the augmentation. weights (N): factors of the samples' losses. Returns the losses (N), detached, unweighted,
        and without attention transfer.
        """
        self._train("dropout")
        self.steps += 1
        images = views.view(self.config.view_s, images, rng)
        with autocast(images.device, self.config.precision), self._feature_maps() as maps:
            with torch.no_grad():
                teacher_logits = self.teacher(images).float()
            student_logits = self.net(images).float()
        if self.config.loss_s == "l1":
            each = losses.l1_each(student_logits, teacher_logits)
        else:
            each = losses.kd_each(student_logits, teacher_logits, self.config.tau)
        whole = each + self.config.attention_s * self._attention(*maps) if maps else each
        mean = (whole if weights is None else whole * weights).mean()
        loop.advance(self.net, self.optimizer, mean, loop.half_cosine(self.config.lr_s, progress), self.config.clip_s)
        self.net.eval()
        return each.detach()

    @contextlib.contextmanager
    def _feature_maps(self):
        """Yields the feature maps of student and teacher, by size, as they are after a pass; none without attention transfer."""
        with contextlib.ExitStack() as stack:
            compared = (self.net, self.teacher) if self.config.attention_s else ()
            yield [stack.enter_context(hooks.feature_maps(net)) for net in compared]

    def _attention(self, student_maps: dict, teacher_maps: dict):
        """The loss of attention transfer (N), summed over the sizes that both have."""
        sizes = student_maps.keys() & teacher_maps.keys()
        if not sizes:
            raise UserError(
                f"transfer: {self.config.method}: attention_s: {self.config.student} and the teacher have no feature maps of "
                "one size; set attention_s: 0, or take another student"
            )
        return sum(losses.attention(student_maps[size], teacher_maps[size]) for size in sorted(sizes))

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
        """Into train mode; what dropout draws is seeded by ``what`` and the number of steps."""
        self.net.train()
        # Independent of what this process drew before, or a resumed run would differ.
        torch.manual_seed(seed_of(self.config.method, self.config.seed, what, self.steps))
