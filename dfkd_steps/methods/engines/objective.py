"""The objective of image synthesis: a weighted sum of named losses, the same for pixels and for generators.

A method's config has a field of the same name for each loss that it uses, with the weight as its value
(``schemas.transfer.options.objective``, which also says what each loss is).
"""

import contextlib
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ...models import hooks
from ...models.cast import cast_copy
from ...runtime.device import autocast, captures_graphs, compiled, kept
from ...runtime.errors import UserError
from ...training import losses
from . import image_losses
from .observed_teacher import ObservedTeacher

CLASS_OF_IMAGE = ("onehot", "activation", "jsd")  # terms for one prediction per image: not for segmentation
NEEDS_STUDENT = ("adversarial", "jsd")
JSD_TAU = 3.0  # arXiv 1912.08795, public code


@dataclass
class Outputs:
    """What the losses of a batch are computed from: images (N,C,H,W), logits (N,K) of the teacher and, where a loss needs
    them, of the student, target labels (N) or None, features (N,D) before the classifier, statistics
    [(layer, mean (C), var (C))] of BatchNorm inputs, features [(N,P,D)] of patches."""

    config: object
    teacher: object
    images: torch.Tensor
    teacher_logits: torch.Tensor
    targets: torch.Tensor | None
    student_logits: torch.Tensor | None
    features: torch.Tensor | None
    statistics: list
    patches: list


def _onehot(outputs):
    targets = outputs.teacher_logits.argmax(1) if outputs.targets is None else outputs.targets
    return F.cross_entropy(outputs.teacher_logits, targets, reduction="none")


def _adversarial(outputs):
    student_logits, teacher_logits = outputs.student_logits, outputs.teacher_logits
    if outputs.config.distance == "l1":
        return -losses.l1_each(student_logits, teacher_logits)
    if outputs.config.distance == "l1-log":
        return -torch.log(losses.l1(student_logits, teacher_logits) + 1)
    each = -losses.kd_places(student_logits, teacher_logits, 1.0)
    if outputs.config.distance == "kl-mean":
        each = each / teacher_logits.shape[1]
    if outputs.config.distance == "decision":
        each = each * image_losses.agree(student_logits, teacher_logits)
    return losses.by_sample(each)


def _presence(outputs):
    if outputs.targets is None:
        raise UserError("transfer: presence: this method draws no target classes; set presence: 0")
    return image_losses.presence(outputs.teacher_logits, outputs.targets)


def _matched(outputs, compare):
    each = [compare(mean, var, layer.running_mean, layer.running_var) for layer, mean, var in outputs.statistics]
    if (first := getattr(outputs.config, "bn_first", 1.0)) != 1.0:
        each[0] = first * each[0]
    return sum(each)


def _moments(outputs):
    mean, std = outputs.teacher.mean.flatten(), outputs.teacher.std.flatten()
    return image_losses.statistics_kl(*image_losses.moments(outputs.images), mean, std.square())


def _patches(outputs):
    if not outputs.patches:
        raise UserError(
            "transfer: patches: the teacher has no feature maps, and no attention whose patches can be looked at; set patches: 0"
        )
    return -sum(image_losses.patch_entropy(features, len(outputs.images)) for features in outputs.patches)


# A loss is a scalar, or one value for each sample (N): then samples can be weighted.
TERMS = {
    "onehot": _onehot,
    "entropy": lambda outputs: losses.by_sample(image_losses.entropy(F.softmax(outputs.teacher_logits, 1))),
    "presence": _presence,
    "balance": lambda outputs: image_losses.balance(outputs.teacher_logits),
    "activation": lambda outputs: image_losses.activation(outputs.features),
    "bn": lambda outputs: _matched(outputs, image_losses.statistics_l2),
    "bn_kl": lambda outputs: _matched(outputs, image_losses.statistics_kl),
    "moments": _moments,
    "tv": lambda outputs: image_losses.total_variation(outputs.images),
    "l2": lambda outputs: image_losses.l2(outputs.images),
    "roughness": lambda outputs: (image_losses.roughness(outputs.images) - outputs.config.smooth_to).abs(),
    "patches": _patches,
    "adversarial": _adversarial,
    "jsd": lambda outputs: 1 - image_losses.jensen_shannon(outputs.student_logits, outputs.teacher_logits, JSD_TAU),
}


class Objective:
    """The enabled losses of a config, for one frozen teacher. Raises UserError where the teacher lacks what they need.

    ema: share of the past in the BatchNorm statistics that are matched: the past stands for the images that a single batch
    cannot hold (Fast, arXiv 2112.06253, public code). ``averages`` are those statistics, [[mean, var]] by layer. hooked: do
    others hook layers of ``teacher``, the objective's own, in its passes?
    """

    def __init__(self, config, teacher, ema: float = 0.0, hooked: bool = False):
        self.config, self.ema = config, ema
        self.teacher = cast_copy(teacher, config.precision)
        self.averages, self.latest = [], []
        self.last = {}  # weighted losses of the last batch by name
        self.weights = {name: getattr(config, name) for name in TERMS if getattr(config, name, 0)}
        if not self.weights:
            raise UserError(f"transfer: {config.method}: the weight of every loss is 0; give at least one of {', '.join(TERMS)}")
        if teacher.description.dense and (unfit := [name for name in CLASS_OF_IMAGE if name in self.weights]):
            zero = "".join(f"+{name}=0" for name in unfit)
            raise UserError(
                f"transfer: {config.method}: the loss {unfit[0]} needs one class per image, but the teacher's task is "
                f"segmentation; switch it off ({zero}) and use entropy or presence"
            )
        self.needs_student = any(name in self.weights for name in NEEDS_STUDENT)
        self.layer = None
        if "activation" in self.weights:
            with autocast(teacher.mean.device, config.precision):
                self.layer = hooks.last_linear(self.teacher.net, teacher.description.image_shape)
        self.norms = "bn" in self.weights or "bn_kl" in self.weights
        if self.norms:
            try:
                hooks.require_batchnorm(teacher.net, teacher.description.image_shape)
            except UserError as error:
                zero = "".join(f"+{name}=0" for name in ("bn", "bn_kl") if name in self.weights)
                raise UserError(f"transfer: {config.method}: {error}; or switch that loss off ({zero})") from None
        self.observed = None
        if captures_graphs() and not hooked and "patches" not in self.weights:
            with autocast(teacher.mean.device, config.precision):
                self.observed = compiled(ObservedTeacher(self.teacher, self.layer, self.norms))

    def forward(self, images, targets=None, student=None) -> Outputs:
        """Run the teacher on images (N,C,H,W), and the student where a loss needs it; keeps what the losses need.

        student: in the mode that it is given in; None: the losses that need one are left out (``terms``).
        """
        with autocast(images.device, self.config.precision):
            teacher_logits, features, statistics, of_patches = self._teacher(images)
            student_logits = student(images).float() if student is not None and self.needs_student else None
        if self.averages:
            statistics = [
                (layer, self.ema * past[0] + (1 - self.ema) * mean, self.ema * past[1] + (1 - self.ema) * var)
                for (layer, mean, var), past in zip(statistics, self.averages, strict=True)
            ]
        # Copies, as they may be needed in a later step.
        self.latest = [[kept(mean.detach()), kept(var.detach())] for _, mean, var in statistics] if self.ema else []
        return Outputs(
            self.config, self.teacher, images, teacher_logits.float(), targets, student_logits,
            features[0].float() if features else None,
            statistics,
            of_patches,
        )  # fmt: skip

    def _teacher(self, images):
        """Of the teacher, for images (N,C,H,W): logits (N,K), features [(N,D)] or [], [(BatchNorm layer, mean, var)], patches."""
        if self.observed:
            logits, features, statistics = self.observed(images)
            pairs = zip(self.observed.norms, statistics, strict=True)
            return logits, features, [(norm, mean, var) for norm, (mean, var) in pairs], []
        with contextlib.ExitStack() as stack:
            features, inputs, patches = [], [], list
            if self.layer is not None:
                features = stack.enter_context(hooks.entering(self.layer))
            if self.norms:
                inputs = stack.enter_context(hooks.batchnorm_inputs(self.teacher.net))
            if "patches" in self.weights:
                patches = stack.enter_context(hooks.patch_features(self.teacher.net))
            logits = self.teacher(images)
            of_patches = patches()
        return logits, features, [(norm, *image_losses.moments(values)) for norm, values in inputs], of_patches

    def terms(self, outputs: Outputs, weights=None) -> dict:
        """The weighted losses by name, each a scalar; ``weights`` (N) of the samples count where a loss has one value each.

        Without logits of a student, the losses that need them are left out.
        """
        terms = {}
        for name, weight in self.weights.items():
            if name in NEEDS_STUDENT and outputs.student_logits is None:
                continue
            term = TERMS[name](outputs)
            if term.ndim:
                term = (term if weights is None else term * weights).mean()
            terms[name] = weight * term
        self.last = {name: kept(term.detach()) for name, term in terms.items()}
        return terms

    def __call__(self, images, targets=None, student=None):
        """The sum of the weighted losses on a batch."""
        return total(self.terms(self.forward(images, targets, student)))

    def remember(self):
        """Take the statistics of the last forward pass into the running averages; of no effect where ``ema`` is 0."""
        if self.ema:
            self.averages = self.latest

    def state(self) -> dict:
        """The running averages."""
        return {"averages": self.averages}

    def restore(self, state: dict):
        """Go on from ``state``."""
        self.averages = [[average.to(self.teacher.mean.device, copy=True) for average in pair] for pair in state["averages"]]


def total(terms: dict):
    """The sum of named losses; raises UserError where none is left, as before there is a student that all of them need."""
    if not terms:
        raise UserError(
            "transfer: warmup: every loss needs a student, and warmup rounds have none; set warmup: 0, or give "
            "another loss a weight"
        )
    return sum(terms.values())


def require_finite(loss: float, what: str, remedy: str):
    """Raise UserError unless a loss is a finite number."""
    if not math.isfinite(loss):
        raise UserError(f"{what}: the loss is {loss}; {remedy}")
