"""Membership inference by likelihood ratios (LiRA, Carlini et al., S&P 2022, arXiv 2112.03570), offline data in, numbers out.

S shadow models, C samples; ``member`` (S,C) says which sample the training set of which model held.
"""

from dataclasses import dataclass

import numpy as np

RATES = (0.001, 0.01)  # false positives at which the share of members that are found is told
RESAMPLED = 1000


def scaled_confidence(logits, labels) -> np.ndarray:
    """log(p / (1 - p)) of the labelled class, p its probability (arXiv 2112.03570, eq. 6). Logits (C,K), labels (C) -> (C)."""
    logits = np.asarray(logits, np.float64)
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, labels] = -np.inf
    most = others.max(1, keepdims=True)
    # log of the sum over the other classes: 1 - p would round to 0 where the model is sure.
    return logits[rows, labels] - (most[:, 0] + np.log(np.exp(others - most).sum(1)))


def likelihood_ratios(confidence, member) -> np.ndarray:
    """For each model and sample, how much likelier its confidence is under models that held the sample than under those that
    did not, from all other models but its complement: of those that remain, as many held a sample the model held as one that it
    did not, so that none of its ratios rests on fewer models than another. Confidences (S,C), member (S,C) bool -> log ratios
    (S,C), NaN where none of these models held the sample, or none did not.

    Both are normal; the mean is that of the sample, the deviation one for all samples, which a few shadow models need
    (arXiv 2112.03570, sec. VI-C).
    """
    confidence, member = np.asarray(confidence, np.float64), np.asarray(member, bool)
    ratios = np.empty(confidence.shape)
    for target in range(len(confidence)):
        others = (np.arange(len(confidence)) != target) & (member == member[target]).any(1)
        densities = [_log_normal(confidence[target], confidence[others], chosen) for chosen in (member[others], ~member[others])]
        ratios[target] = densities[0] - densities[1]
    return ratios


def _log_normal(values, given, chosen):
    """Log densities (C), without their constant, of values (C) under the chosen (S,C) of the given (S,C)."""
    count = chosen.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(chosen, given, 0).sum(0) / count
    residuals = (given - mean)[chosen]
    free = chosen.sum() - (count > 0).sum()
    variance = max((residuals**2).sum() / max(1, free), 1e-12)
    return -0.5 * (values - mean) ** 2 / variance - 0.5 * np.log(variance)


def found_at(scores, member, rate: float) -> float:
    """The share of members above the threshold that a share ``rate`` of the others is above at most. Scores (N), member (N)."""
    others = np.sort(scores[~member])[::-1]
    allowed = int(rate * len(others))
    threshold = others[allowed] if allowed < len(others) else -np.inf
    return float((scores[member] > threshold).mean())


def area(scores, member) -> float:
    """The area under the ROC curve: the chance that a member has the higher score; equal scores count a half."""
    values, places = np.unique(scores, return_inverse=True)
    inside = np.bincount(places[member], minlength=len(values))
    outside = np.bincount(places[~member], minlength=len(values))
    below = np.cumsum(outside) - outside
    return float((inside * (below + outside / 2)).sum() / (inside.sum() * outside.sum()))


@dataclass(frozen=True)
class Attack:
    """What an attack finds: its area under the ROC curve and its share of members at each of ``RATES``, each as (value, low,
    high) with a 95 % interval; ``others``: the non-members that a false positive rate is measured on."""

    area: tuple[float, float, float]
    rates: tuple[tuple[float, float, float], ...]
    others: int


def attack(scores, member, rng) -> Attack:
    """The figures of scores (S,C); NaN scores are left out. rng: a numpy generator, of the intervals.

    Intervals by the bootstrap over samples (percentiles of ``RESAMPLED`` draws): scores of one sample under several models are
    not independent, so a sample is drawn with all of them.
    """
    known = ~np.isnan(scores)

    def figures(columns):
        kept = known[:, columns]
        values, inside = scores[:, columns][kept], member[:, columns][kept]
        return [area(values, inside), *(found_at(values, inside, rate) for rate in RATES)]

    every = np.arange(scores.shape[1])
    drawn = np.array([figures(rng.choice(every, len(every))) for _ in range(RESAMPLED)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    (whole, *rest) = [tuple(map(float, figure)) for figure in zip(figures(every), low, high)]
    return Attack(whole, tuple(rest), int((known & ~member).sum()))
