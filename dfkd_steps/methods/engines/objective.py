"""What synthetic images are to fulfil: a weighted sum of named losses, the same for pixels and for generators.

A method's config has a field of the same name for each loss that it uses, with the weight as its value (``weight``).
"""

import contextlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ...models import hooks
from ...runtime.device import autocast
from ...runtime.errors import UserError
from ...schemas.fields import opt
from ...training import losses

MEANING = {
    "onehot": "cross-entropy to the wanted class, or to the likeliest one where none is wanted",
    "balance": "classes equally frequent in a batch (negative entropy of the mean prediction)",
    "activation": "large features before the classifier (DAFL)",
    "bn": "statistics of the teacher's BatchNorm inputs, L2 form",
    "bn_kl": "statistics of the teacher's BatchNorm inputs, Gaussian KL form",
    "moments": "mean and variance of the pixels against the teacher's own normalisation, Gaussian KL",
    "tv": "total variation of the images",
    "l2": "norm of the images",
    "adversarial": "disagreement of teacher and student, maximised; `distance` says how it is measured",
    "jsd": "1 - Jensen-Shannon divergence of teacher and student at temperature 3 (ADI)",
}
NEEDS_STUDENT = ("adversarial", "jsd")
JSD_TAU = 3.0  # arXiv 1912.08795, public code


def weight(name: str, default: float):
    """A config field for the weight of a loss; 0 = not used."""
    return opt(default, f"weight of the loss: {MEANING[name]} (0 = off)", lo=0)


def distance(default: str):
    """A config field for how teacher and student are compared."""
    meaning = "kl = KL at temperature 1; l1 = of the logits; decision = KL where both name the same class (CMI)"
    return opt(default, f"the adversarial loss: {meaning}", choices=("kl", "l1", "decision"))


def mode(default: str):
    """A config field for the student's mode as a generator's losses look through it."""
    meaning = "the student's mode as the generator's losses look through it; train = BatchNorm by the batch's own statistics"
    return opt(default, meaning, choices=("eval", "train"))


@dataclass
class Seen:
    """A batch as the losses see it: images (N,C,H,W), logits (N,K) of teacher and student, features (N,D) before the
    classifier, statistics [(layer, mean (C), var (C))] of BatchNorm inputs, wanted labels (N) or None."""

    config: object
    teacher: object
    images: torch.Tensor
    logits: torch.Tensor
    wanted: torch.Tensor | None
    student_logits: torch.Tensor | None = None
    features: torch.Tensor | None = None
    statistics: list = ()


def _onehot(seen):
    wanted = seen.logits.argmax(1) if seen.wanted is None else seen.wanted
    return F.cross_entropy(seen.logits, wanted, reduction="none")


def _adversarial(seen):
    if seen.config.distance == "l1":
        return -losses.l1_each(seen.student_logits, seen.logits)
    each = -losses.kd_each(seen.student_logits, seen.logits, 1.0)
    return each * losses.agree(seen.student_logits, seen.logits) if seen.config.distance == "decision" else each


def _matched(seen, compare):
    return sum(compare(mean, var, layer.running_mean, layer.running_var) for layer, mean, var in seen.statistics)


def _moments(seen):
    mean, std = seen.teacher.mean.flatten(), seen.teacher.std.flatten()
    return losses.statistics_kl(*losses.moments(seen.images), mean, std.square())


# A loss is a scalar, or one value for each sample (N): then samples can be weighted.
TERMS = {
    "onehot": _onehot,
    "balance": lambda seen: losses.balance(seen.logits),
    "activation": lambda seen: losses.activation(seen.features),
    "bn": lambda seen: _matched(seen, losses.statistics_l2),
    "bn_kl": lambda seen: _matched(seen, losses.statistics_kl),
    "moments": _moments,
    "tv": lambda seen: losses.total_variation(seen.images),
    "l2": lambda seen: losses.l2(seen.images),
    "adversarial": _adversarial,
    "jsd": lambda seen: 1 - losses.jensen_shannon(seen.student_logits, seen.logits, JSD_TAU),
}


class Objective:
    """The enabled losses of a config, for one frozen teacher. Raises UserError where the teacher lacks what they need."""

    def __init__(self, config, teacher):
        self.config, self.teacher = config, teacher
        self.ema, self.averages, self.latest = 0.0, [], []
        self.weights = {name: getattr(config, name) for name in TERMS if getattr(config, name, 0)}
        if not self.weights:
            raise UserError(f"transfer: {config.method}: the weight of every loss is 0; give at least one of {', '.join(TERMS)}")
        self.student_wanted = any(name in self.weights for name in NEEDS_STUDENT)
        self.layer = hooks.last_linear(teacher.net, teacher.description.image_shape) if "activation" in self.weights else None
        self.norms = "bn" in self.weights or "bn_kl" in self.weights
        if self.norms:
            try:
                hooks.require_batchnorm(teacher.net)
            except UserError as error:
                zero = "+".join(f"{name}=0" for name in ("bn", "bn_kl") if name in self.weights)
                raise UserError(f"transfer: {config.method}: {error}; or switch that loss off ({config.method}+{zero})") from None

    def look(self, images, wanted=None, student=None) -> Seen:
        """Ask the teacher (and the student, in eval mode as it is given) about images, with all that the losses need."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(autocast(images.device, self.config.precision))
            features, inputs = [], []
            if self.layer is not None:
                features = stack.enter_context(hooks.entering(self.layer))
            if self.norms:
                inputs = stack.enter_context(hooks.batchnorm_inputs(self.teacher.net))
            logits = self.teacher(images).float()
            answered = student(images).float() if self.student_wanted else None
        statistics = [(layer, *losses.moments(values)) for layer, values in inputs]
        if self.averages:
            # Fast: the past stands for the images that a single batch cannot hold (arXiv 2112.06253, public code).
            statistics = [
                (layer, self.ema * past[0] + (1 - self.ema) * mean, self.ema * past[1] + (1 - self.ema) * var)
                for (layer, mean, var), past in zip(statistics, self.averages, strict=True)
            ]
        self.latest = [[mean.detach(), var.detach()] for _, mean, var in statistics]
        return Seen(
            self.config, self.teacher, images, logits, wanted, answered,
            features[0].float() if features else None,
            statistics,
        )  # fmt: skip

    def terms(self, seen: Seen, each=None) -> dict:
        """The weighted losses by name, each a scalar; ``each`` (N) weights the samples where a loss has one value a sample."""
        made = {}
        for name, value in self.weights.items():
            term = TERMS[name](seen)
            if term.ndim:
                term = (term if each is None else term * each).mean()
            made[name] = value * term
        return made

    def remember(self):
        """Take the statistics of the last look into the running averages; of no effect where ``ema`` is 0."""
        if self.ema:
            self.averages = self.latest

    def __call__(self, images, wanted=None, student=None):
        """The sum of the weighted losses on a batch."""
        return total(self.terms(self.look(images, wanted, student)))


def total(terms: dict):
    """The sum of named losses; raises UserError where none is left, as before there is a student that all of them need."""
    if not terms:
        raise UserError("transfer: warmup: every loss needs a student; set warmup: 0, or give the weight of another loss")
    return sum(terms.values())
