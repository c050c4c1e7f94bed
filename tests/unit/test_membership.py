"""LiRA: confidences, ratios, rates and areas by second formulas, and on scores whose answer is known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from dfkd_steps.training import membership


def test_the_confidence_of_a_label_is_its_log_odds():
    logits = np.random.default_rng(0).normal(size=(6, 4)) * 3
    labels = np.array([0, 1, 2, 3, 0, 1])
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = chance[range(6), labels]
    np.testing.assert_allclose(membership.scaled_confidence(logits, labels), np.log(right / (1 - right)), rtol=1e-9)
    sure = membership.scaled_confidence(np.array([[200.0, 0.0], [0.0, 200.0]]), np.array([0, 0]))
    assert sure.tolist() == [200.0, -200.0]


def test_ratios_by_hand_from_the_other_models():
    rng = np.random.default_rng(1)
    confidence, member = (
        rng.normal(size=(6, 3)),
        np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1]], bool),
    )
    found = membership.likelihood_ratios(confidence, member)
    for target in range(6):
        others = [one for one in range(6) if one != target and (member[one] == member[target]).any()]
        assert len(others) == 4  # each has a complement
        density = {}
        for held in (True, False):
            means = [np.mean([confidence[one, c] for one in others if member[one, c] == held]) for c in range(3)]
            squares = [(confidence[one, c] - means[c]) ** 2 for one in others for c in range(3) if member[one, c] == held]
            deviation = math.sqrt(sum(squares) / (len(squares) - 3))
            density[held] = [
                math.exp(-((confidence[target, c] - means[c]) ** 2) / (2 * deviation**2)) / deviation for c in range(3)
            ]
        np.testing.assert_allclose(found[target], np.log(np.divide(density[True], density[False])), rtol=1e-6)


def test_a_sample_that_no_other_model_held_or_all_did_has_no_ratio():
    member = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 1, 0], [0, 0, 1]], bool)
    found = membership.likelihood_ratios(np.random.default_rng(0).normal(size=(5, 3)), member)
    assert np.argwhere(np.isnan(found)).tolist() == [[0, 0], [3, 2]]  # model 3 alone did not hold sample 2


@pytest.mark.parametrize("shadows", [4, 6, 8])
def test_few_shadows_in_pairs_do_not_say_the_opposite(shadows):
    """A shadow and its complement hold halves of the canaries: with the complement among them, fewer of the other models held
    what a shadow held than what it did not, and the mean of fewer is further off."""
    rng, areas = np.random.default_rng(5), []
    for _ in range(30):
        halves = [rng.permutation(100) < 50 for _ in range(shadows // 2)]
        member = np.stack([one for half in halves for one in (half, ~half)])
        scores = membership.likelihood_ratios(rng.normal(size=member.shape) + 3 * rng.normal(size=100), member)
        areas.append(membership.area(scores[~np.isnan(scores)], member[~np.isnan(scores)]))
    assert abs(np.mean(areas) - 0.5) < 0.02


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0.5), (0.24, 0.5), (0.25, 0.75), (0.5, 0.75), (0.75, 1.0), (1.0, 1.0)])
def test_members_above_the_threshold_of_a_false_positive_rate(rate, share):
    scores = np.array([9.0, 8.0, 6.0, 3.0, 7.0, 5.0, 5.0, 2.0])
    member = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    assert membership.found_at(scores, member, rate) == share


def test_equal_scores_find_nobody():
    scores, member = np.zeros(10), np.arange(10) < 5
    assert membership.found_at(scores, member, 0.1) == 0 and membership.area(scores, member) == 0.5


def test_the_area_counts_pairs():
    rng = np.random.default_rng(2)
    scores, member = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.4
    pairs = [(one > other) + 0.5 * (one == other) for one in scores[member] for other in scores[~member]]
    assert membership.area(scores, member) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize(("shift", "least", "most"), [(8.0, 0.99, 1.0), (0.0, 0.4, 0.6)])
def test_an_attack_where_the_answer_is_known(shift, least, most):
    rng = np.random.default_rng(3)
    member = np.concatenate([one := rng.random((4, 60)) < 0.5, ~one])
    confidence = rng.normal(size=(8, 60)) + 3 * rng.normal(size=60) + shift * member
    found = membership.attack(membership.likelihood_ratios(confidence, member), member, np.random.default_rng(0))
    value, low, high = found.area
    assert least <= value <= most and low <= value <= high and found.others == 240
    for rate, (share, low, high) in zip(membership.RATES, found.rates):
        assert low <= share <= high and (share > 0.95 if shift else share <= 0.1), rate


def test_intervals_narrow_with_more_samples():
    width = []
    for samples in (20, 320):
        rng = np.random.default_rng(4)
        member = rng.random((6, samples)) < 0.5
        _, low, high = membership.attack(rng.normal(size=(6, samples)) + member, member, np.random.default_rng(0)).area
        width.append(high - low)
    assert 0.15 < width[1] / width[0] < 0.4  # about a quarter


def test_an_interval_leaves_out_a_fortieth_of_the_draws_at_each_end(monkeypatch):
    """Of 1,000 draws with the areas 0 to 999; the area of all samples is asked for afterwards."""
    areas = iter(range(1001))
    monkeypatch.setattr(membership, "area", lambda scores, member: float(next(areas)))
    member = np.array([[True, False, True, False]])
    area = membership.attack(np.zeros((1, 4)), member, SimpleNamespace(choice=lambda columns, number: columns)).area
    assert area == pytest.approx((1000, 24.975, 974.025))
