"""Priority sampling against its formulas: P ~ |delta| + eps, w = (N P)^-beta over its mean."""

import pytest
import torch
from small_net import close

from dfkd_steps.training.priority_sampling import EPS, Priorities

DELTA = torch.tensor([0.0, 1.0, 2.0, 5.0])


def visited(beta=0.5):
    made = Priorities(4, "cpu", beta)
    made.visited(torch.arange(4), torch.ones(4), DELTA)
    return made


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_draws_follow_the_priorities():
    made = visited()
    wanted = (DELTA + EPS) / (8 + 4 * EPS)
    close(made.probabilities(), wanted)
    rows, _ = made.draw(20_000, draw())
    counts = rows.bincount(minlength=4)
    error = 4 * (wanted * (1 - wanted) * 20_000).sqrt()  # four standard deviations
    assert ((counts - wanted * 20_000).abs() <= error + 1).all() and counts[0] < 30
    assert torch.equal(rows, made.draw(20_000, draw())[0]) and not torch.equal(rows, made.draw(20_000, draw(1))[0])


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_importance_weights(beta):
    rows, weights = visited(beta).draw(500, draw())
    chance = ((DELTA + EPS) / (8 + 4 * EPS)).double()
    by_hand = [(4 * float(chance[row])) ** -beta for row in rows]
    assert weights.tolist() == pytest.approx([one * 500 / sum(by_hand) for one in by_hand], rel=1e-4)
    assert weights.mean().item() == pytest.approx(1) and (beta > 0 or (weights == 1).all())


def test_full_correction_is_unbiased():
    made, values = visited(beta=1.0), torch.tensor([7.0, -1.0, 3.0, 5.0])
    rows = torch.arange(4)
    chance = made.probabilities()
    weights = (4 * chance) ** -1
    close((chance * weights * values).sum(), values.mean())  # what the weights are there for
    drawn, given = made.draw(200, draw())
    scale = given / weights[drawn]
    close(scale, scale[:1].expand(200))  # and those that are given are these but for one factor
    assert set(drawn.tolist()) <= set(rows.tolist())


def test_what_was_never_visited_has_the_largest_priority():
    made = Priorities(4, "cpu", 0.5)
    close(made.probabilities(), torch.full((4,), 0.25))
    made.visited(torch.tensor([0, 1]), 1.0, torch.tensor([3.0, 1.0]))
    close(made.probabilities(), (torch.tensor([3.0, 1.0, 3.0, 3.0]) + EPS) / (10 + 4 * EPS))
    made.visited(torch.arange(4), 1.0, torch.zeros(4))  # all learnt: even again, and no division by zero
    close(made.probabilities(), torch.full((4,), 0.25))


def test_visits_are_weighted_and_forgotten():
    made = visited()
    made.visited(torch.tensor([3, 0]), torch.tensor([0.5, 1.0]), torch.tensor([4.0, 6.0]))
    assert made.delta.tolist() == [6.0, 1.0, 2.0, 2.0]
    made.forget(torch.tensor([1]))
    close(made.probabilities(), (torch.tensor([6.0, 6.0, 2.0, 2.0]) + EPS) / (16 + 4 * EPS))


def test_only_the_first_rows_where_the_rest_is_not_there_yet():
    made = Priorities(10, "cpu", 1.0)
    made.visited(torch.arange(3), 1.0, torch.tensor([1.0, 2.0, 3.0]))
    assert made.probabilities(3).shape == (3,) and made.probabilities(3).sum().item() == pytest.approx(1)
    rows, weights = made.draw(300, draw(), 3)
    assert set(rows.tolist()) == {0, 1, 2}
    close(weights[rows == 0][0] / weights[rows == 2][0], torch.tensor((3 + EPS) / (1 + EPS)))
