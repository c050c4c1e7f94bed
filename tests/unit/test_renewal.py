"""The agent of renewal: the update of Q-learning, and that it finds out what pays."""

import pytest
import torch

from dfkd_steps.methods.engines.renewal import ACTIONS, DISCOUNT, STATES, STEP, Agent


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("loss", "last", "state"),
    [(1.0, None, 0), (0.89, 1.0, 0), (0.91, 1.0, 1), (0.999, 1.0, 1), (1.001, 1.0, 2), (5.0, 1.0, 2)],
)
def test_states(loss, last, state):
    assert Agent.state_of(loss, last) == state < STATES


def test_update():
    agent = Agent(0.0, price=0.1)
    agent.values[:] = torch.arange(15.0).view(STATES, len(ACTIONS)) / 10
    before = agent.values.clone()
    agent.learn(1, 2, gain=0.7, after=2)
    reward = 0.7 - 0.1 * 0.5  # half a batch
    expected = before[1, 2] + STEP * (reward + DISCOUNT * 1.4 - before[1, 2])
    assert agent.values[1, 2].item() == pytest.approx(expected.item())
    agent.values[1, 2] = before[1, 2]
    assert torch.equal(agent.values, before)  # nothing else moved


def test_values_converge_to_those_of_a_constant_world():
    agent = Agent(0.0, price=0.0)
    for _ in range(200):
        agent.learn(0, 3, gain=1.0, after=0)
    assert agent.values[0, 3].item() == pytest.approx(1 / (1 - DISCOUNT), rel=1e-3)


def test_what_was_not_tried_yet_is_tried():
    agent, taken = Agent(0.0, 0.0), []
    for _ in ACTIONS:
        taken.append(agent.choose(0, draw()))
        agent.learn(0, taken[-1], gain=0.1, after=1)  # below UNTRIED
    assert sorted(taken) == list(range(len(ACTIONS)))


def test_it_takes_the_best_but_for_its_share_of_exploring():
    agent = Agent(0.25, 0.0)
    agent.values[1, 3] = 2.0
    chosen = [agent.choose(1, rng) for rng in [draw()] for _ in range(2000)]
    counts = torch.tensor(chosen).bincount(minlength=len(ACTIONS)) / 2000
    others = 0.25 / len(ACTIONS)
    assert counts[3].item() == pytest.approx(1 - 0.25 + others, abs=0.03)
    assert (counts[[0, 1, 2, 4]] - others).abs().max() < 0.02
    agent.explore = 0.0
    assert {agent.choose(1, draw(seed)) for seed in range(20)} == {3}


def world(pays, price=0.0, rounds=1500):
    """Learns in a world where the one action that pays depends on the state, and states follow one another by chance."""
    agent, rng, state = Agent(0.3, price), draw(), 0
    for _ in range(rounds):
        action = agent.choose(state, rng)
        after = int(torch.randint(0, STATES, (), generator=rng))
        agent.learn(state, action, float(action in pays[state]), after)
        state = after
    return agent.values


def test_it_learns_which_action_pays_in_which_state():
    assert world([{4}, {1}, {3}]).argmax(1).tolist() == [4, 1, 3]


def test_where_all_pay_alike_the_cheapest_is_learnt():
    all_pay = [set(range(len(ACTIONS)))] * STATES
    assert world(all_pay, price=0.5).argmax(1).tolist() == [0, 0, 0] and ACTIONS[0].share == 0
