"""What can be said of a teacher without data: on noise and on images drawn here, how sure it is, what it predicts, and
whether its BatchNorm statistics go with the normalisation that it was given.

Changes nothing of a network, so no result depends on this module.
"""

import dataclasses
from collections import Counter

import torch

from ..procedural import drawing
from ..runtime import memory, passes
from ..runtime.errors import UserError
from . import hooks
from .classifier import Classifier

SAMPLES, LEAST_SAMPLES = 32, 4  # of each kind, at most and at least; between these as many as are drawn together
NATURAL = ("leaves", "scenes")  # the kinds whose statistics are most like those of photographs
KINDS = {1: ("uniform", "smooth", "strokes", *NATURAL), 3: ("uniform", "smooth", "objects", *NATURAL)}
# Normalisations in use, per number of channels: (mean, std).
COMMON = {
    1: [((0.5,), (0.5,)), ((0.0,), (1.0,)), ((0.1307,), (0.3081,)), ((0.0,), (1 / 255,))],
    3: [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    ],
}
# How much worse than the best one a normalisation must fit to be doubted, and how badly, in nats. A public ResNet-20 and an
# EfficientNet-lite0 fit theirs to 0.08 and 0.06 or better, and wrong ones to 0.38 or worse.
TIMES, LEAST = 4.0, 0.25


def draw(description) -> dict[str, torch.Tensor]:
    """Images (N,C,H,W) in [0,1] of each kind, always the same ones; all are held at once."""
    kinds, number = KINDS[description.image_shape[0]], min(SAMPLES, max(LEAST_SAMPLES, memory.drawn(description.image_shape)))
    return {kind: drawing.draw(kind, number, description, torch.Generator().manual_seed(0)).float() for kind in kinds}


def look(classifier: Classifier) -> list[str]:
    """Lines for a log: confidence and predictions by kind of image, BatchNorm, and a doubted normalisation.

    Raises UserError where the network returns probabilities instead of logits.
    """
    images, lines = draw(classifier.description), []
    answers = {kind: _answers(classifier, drawn) for kind, drawn in images.items()}
    if all(normalised for *_, normalised in answers.values()):
        raise UserError(
            f"teacher: {classifier.description.name} returns probabilities, so it ends in a softmax; make it return its logits"
        )
    for kind, (sure, counts, _) in answers.items():
        first, number = counts.most_common(1)[0]
        lines.append(
            f"on {kind} images: mean confidence {sure:.2f}, {len(counts)} of {classifier.description.num_classes} classes "
            f"predicted, {classifier.description.classes[first]} for {number} of {counts.total()}"
        )
    norms = len(hooks.reached_batchnorm(classifier.net, classifier.description.image_shape))
    said = f"{norms} BatchNorm layers with statistics" if norms else "no BatchNorm statistics, which some methods need"
    return [*lines, said, *filter(None, [doubt(classifier, images)])]


def _answers(classifier, images) -> tuple[float, Counter, bool]:
    """Mean confidence, how often each class is predicted, and whether all that the network returns are probabilities.

    Of segmentation each pixel counts as an image, and its logits are too large to keep.
    """
    sure, counts, normalised = 0.0, Counter(), True
    for part in images.split(passes.passed_by(classifier.description)):
        with torch.no_grad():
            logits = classifier(part).float()
        sure += logits.softmax(1).amax(1).double().sum().item()
        counts.update(logits.argmax(1).flatten().tolist())
        normalised = normalised and bool(logits.min() >= 0 and (logits.sum(1) - 1).abs().max() < 1e-3)
    return sure / counts.total(), counts, normalised


def doubt(classifier: Classifier, images=None) -> str | None:
    """A line where another normalisation in use fits the first BatchNorm's statistics far better than the given one, on every
    kind of image that is like photographs; else None.
    """
    images = images or draw(classifier.description)
    if not hooks.batchnorm_layers(classifier) or _first_norm(classifier, images[NATURAL[0]][:1]) is None:
        return None
    given = (classifier.description.mean, classifier.description.std)
    others = [pair for pair in COMMON[classifier.description.image_shape[0]] if not _alike(pair, given)]
    misfits = {pair: [_misfit(classifier, pair, images[kind]) for kind in NATURAL] for pair in (given, *others)}
    best = min(misfits, key=lambda pair: sum(misfits[pair]))
    if any(mine < max(LEAST, TIMES * other) for mine, other in zip(misfits[given], misfits[best])):
        return None
    mean, std = ([round(value, 4) for value in part] for part in best)
    return (
        f"WARNING: mean and std may be wrong: the BatchNorm statistics of the first layer fit mean {mean} and std {std} better "
        f"({sum(misfits[best]) / 2:.2f} versus {sum(misfits[given]) / 2:.2f} nats); check which values it was trained with"
    )


def _alike(first, second) -> bool:
    return all(abs(a - b) < 0.02 for part, rest in zip(first, second) for a, b in zip(part, rest))


class _Entered(Exception):
    """Ends a pass where a layer is entered; its arguments are the layer and what enters it."""


@torch.no_grad()
def _first_norm(classifier, images):
    """The BatchNorm layer that images reach first, and what enters it (N,C,...); None where they reach none.

    The pass goes no further: of large images what enters all layers is gigabytes, and the rest of it takes most of the time.
    """

    def stop(layer, inputs):
        raise _Entered(layer, inputs[0])

    with hooks.hooked(hooks.batchnorm_layers(classifier), stop, before=True):
        try:
            classifier(images)
        except _Entered as entered:
            return entered.args
    return None


def _misfit(classifier, normalisation, images) -> float:
    """Median over channels of KL(batch || running statistics), both as Gaussians, of what enters the first BatchNorm; nats."""
    described = dataclasses.replace(classifier.description, mean=normalisation[0], std=normalisation[1])
    normalising, moments = Classifier(classifier.net, described).eval(), []
    for part in images.split(memory.passed(images.shape[1:])):
        layer, inputs = _first_norm(normalising, part)
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        variance, mean = torch.var_mean(inputs.float(), axes, correction=0)
        moments.append((inputs.numel() / inputs.shape[1], variance.double(), mean.double()))
    numbers, variances, means = zip(*moments)
    numbers, variances, means = torch.tensor(numbers).double()[:, None], torch.stack(variances), torch.stack(means)
    mean = (numbers * means).sum(0) / numbers.sum()
    variance = (numbers * (variances + (means - mean) ** 2)).sum(0) / (numbers.sum() - 1)
    live = layer.running_var > 1e-3 * layer.running_var.max()  # channels that training left dead say nothing
    running, variance = layer.running_var[live].clamp_min(1e-12), variance[live].clamp_min(1e-12)
    shift = (mean - layer.running_mean)[live] ** 2 / running
    return (0.5 * (variance / running + shift - 1 - torch.log(variance / running))).median().item()
