"""When to renew a replay buffer, and what of it: learnt by reward, round by round (SSD-KD; a reconstruction)."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Action:
    """A share of a batch that enters the buffer; ``easy``: in place of what is learnt best, else of what is oldest."""

    share: float
    easy: bool = True


ACTIONS = (Action(0.0), Action(0.25), Action(0.5), Action(1.0), Action(1.0, easy=False))
STATES = 3  # the student's loss on the buffer has fallen by more than a tenth, by less, or has risen since the last round
STEP, DISCOUNT, UNTRIED = 0.3, 0.5, 1.0


class Agent:
    """Tabular Q-learning: the state is how the student gets on with the buffer, the reward is the gain in difficulty of
    the buffer, less the price of the images made for it. What was not tried yet in a state is taken to pay (UNTRIED)."""

    def __init__(self, explore: float, price: float):
        self.explore, self.price = explore, price
        self.values = torch.full((STATES, len(ACTIONS)), UNTRIED)

    @staticmethod
    def state_of(loss: float, last: float | None) -> int:
        """0: the loss has fallen by more than a tenth; 1: by less; 2: it has risen."""
        if last is None or loss < 0.9 * last:
            return 0
        return 1 if loss < last else 2

    def choose(self, state: int, rng) -> int:
        """The best action for a state, or with probability ``explore`` any. ``generator``: on the CPU."""
        if torch.rand((), generator=rng) < self.explore:
            return int(torch.randint(0, len(ACTIONS), (), generator=rng))
        return int(self.values[state].argmax())

    def learn(self, state: int, action: int, gain: float, after: int):
        """Q-learning: ``gain`` in difficulty from ``action`` in ``state``, which led to the state ``after``."""
        reward = gain - self.price * ACTIONS[action].share
        target = reward + DISCOUNT * self.values[after].max()
        self.values[state, action] += STEP * (target - self.values[state, action])
