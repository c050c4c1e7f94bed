"""A student trained inside a synthesis method, step by step, on images that the method makes or keeps."""

import contextlib
from types import SimpleNamespace

import torch
from torch.nn.modules.dropout import _DropoutNd

from ...models import frozen, hooks
from ...models.cast import cast_copy
from ...models.classifier import new_classifier
from ...runtime.device import autocast, compiled, kept
from ...runtime.errors import UserError
from ...runtime.seeds import seed_of
from ...storage import checkpoint
from ...training import loop, losses, snapshots, student_losses, views
from .schedules import rate


def optimizer(net, config):
    """The optimiser of a student."""
    if config.optimizer_s == "sgd":
        # Not that of ``training.loop``: no public code of these methods has Nesterov momentum or spares BatchNorm the decay.
        return torch.optim.SGD(net.parameters(), lr=config.lr_s, momentum=0.9, weight_decay=config.weight_decay_s, fused=True)
    settings = SimpleNamespace(optimizer=config.optimizer_s, lr=config.lr_s, weight_decay=config.weight_decay_s)
    return loop.optimizer(net, settings)


class OnlineStudent:
    """The student of a method: network, optimiser, and a place on the schedule.

    schedule: of its learning rate. floor: share of the peak that the learning rate does not go below.
    """

    def __init__(self, config, teacher, device, schedule: str = "cosine", floor: float = 0.0):
        self.config = config
        # Whoever looks at feature maps needs the layers as they are.
        self.teacher = (cast_copy if config.attention_s else frozen.fast_copy)(teacher, config.precision)
        self.schedule, self.floor = schedule, floor
        self.loss = student_losses.load(config.loss_s, config.tau, teacher.description)
        net = new_classifier(config.student, teacher.description, seed_of(config.method, config.seed, "student"))
        self.net = net.to(device, memory_format=torch.channels_last).eval()
        if not config.attention_s:  # hooks on its layers do not go with a compiled network
            compiled(self.net)
        self.optimizer = optimizer(self.net, config)
        self.snapshots = snapshots.Snapshots(self.net, config.snapshots)
        self.steps = 0
        self.sums = torch.zeros(2, device=device)  # of losses and agreements of the steps since ``figures`` was asked
        self.summed = 0
        # A library's network may drop by a function, and not by a module that can be found.
        self.drops = self.net.description.builder != "arch" or any(isinstance(layer, _DropoutNd) for layer in self.net.modules())

    def ask_teacher(self, images):
        """The teacher's answer to images (N,C,H,W): its logits (N,K), and its feature maps by size for attention transfer."""
        with torch.no_grad(), autocast(images.device, self.config.precision), self._feature_maps(self.teacher) as maps:
            return kept(self.teacher(images).float()), maps

    def step(self, images, progress: float, rng, weights=None, answer=None):
        """One step on images (N,C,H,W); ``progress``: the share of the whole training that is done, in [0,1).

        rng: of the augmentation. weights (N): factors of the samples' losses. answer: what ``ask_teacher`` gave for these
        images, which then are not augmented. Returns the losses (N), detached, unweighted, and without attention transfer.
        """
        config = self.config
        self.snapshots.step(progress, len(images))
        self._train("dropout")
        self.steps += 1
        if answer is None:
            images = views.mix(config.mix_s, views.view(config.view_s, images, rng), rng)
            answer = self.ask_teacher(images)
        teacher_logits, teacher_maps = answer
        with autocast(images.device, config.precision), self._feature_maps(self.net) as student_maps:
            student_logits = self.net(images).float()
        each = self.loss(student_logits, teacher_logits)
        with torch.no_grad():
            agrees = (student_logits.argmax(1) == teacher_logits.argmax(1)).float()
            self.sums += torch.stack([each.mean(), agrees.mean()])
        self.summed += 1
        whole = each + config.attention_s * self._attention(student_maps, teacher_maps) if config.attention_s else each
        mean = (whole if weights is None else whole * weights).mean()
        loop.advance(self.net, self.optimizer, mean, self.lr(progress), config.clip_s)
        self.net.eval()
        return each.detach()

    def figures(self) -> dict[str, float]:
        """Means over the steps since the last call: loss, and the percentage of images on which the student, before the step,
        predicted what the teacher does. For a round's end: checkpoints hold no sums."""
        loss, agreement = (self.sums / self.summed).tolist()
        self.sums.zero_()
        self.summed = 0
        return {"loss": loss, "agreement": 100 * agreement}

    def lr(self, progress: float) -> float:
        """The learning rate at ``progress``."""
        floor = self.floor * self.config.lr_s
        return floor + rate(self.schedule, self.config.lr_s - floor, progress)

    def _feature_maps(self, net):
        """The feature maps of a network, by size, as they are after a pass; None without attention transfer."""
        return hooks.feature_maps(net) if self.config.attention_s else contextlib.nullcontext()

    def _attention(self, student_maps: dict, teacher_maps: dict):
        """The loss of attention transfer (N), summed over the sizes that both have."""
        sizes = student_maps.keys() & teacher_maps.keys()
        if not sizes:
            raise UserError(
                f"transfer: {self.config.method}: attention_s: {self.config.student} and the teacher have no feature maps of "
                "equal size; set attention_s: 0, or use another student"
            )
        return sum(losses.attention(student_maps[size], teacher_maps[size]) for size in sorted(sizes))

    def state(self) -> dict:
        """Weights, moments, the number of steps, and snapshots."""
        kept = {"steps": self.steps, "snapshots": self.snapshots.state()}
        return {**checkpoint.state_of(self.net, self.optimizer), **kept}

    def restore(self, state: dict):
        """Go on from ``state``."""
        checkpoint.restore(self.net, self.optimizer, state)
        self.steps = state["steps"]
        self.snapshots.restore(state["snapshots"])

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
        if self.drops:  # independent of what this process drew before, or a resumed run would differ
            torch.manual_seed(seed_of(self.config.method, self.config.seed, what, self.steps))
