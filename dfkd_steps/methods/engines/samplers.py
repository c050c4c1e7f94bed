"""Which images of a pool the online student trains on."""

import torch

from ...training.priority_sampling import Priorities


class UniformSampler:
    """Every image of the pool with the same probability, with replacement."""

    def __init__(self, pool):
        self.pool = pool

    def draw(self, number: int, rng):
        """Rows (number) of the pool and importance weights (None: all are 1)."""
        return torch.randint(0, len(self.pool), (number,), generator=rng, device=self.pool.images.device), None

    def update(self, rows, weights, losses):
        """Nothing: no draw depends on losses."""


class PrioritySampler:
    """What the student has not learnt is drawn more often, with importance weights (``training.priority_sampling``).

    active False: draws uniformly, and keeps priorities for the replacement rule of the pool alone.
    """

    def __init__(self, pool, beta: float, active: bool):
        self.priorities = Priorities(pool.capacity, pool.images.device, beta)
        self.pool = pool
        self.uniform = None if active else UniformSampler(pool)

    def draw(self, number: int, rng):
        """Rows (number) of the pool and importance weights (number), or None where all are 1."""
        return self.uniform.draw(number, rng) if self.uniform else self.priorities.draw(number, rng, len(self.pool))

    def update(self, rows, weights, losses):
        """The student's losses (number) on rows that were drawn with these weights."""
        self.priorities.visited(rows, 1.0 if weights is None else weights, losses)

    def state(self) -> dict:
        """The priorities."""
        return self.priorities.state()

    def restore(self, state: dict):
        """Go on from ``state``."""
        self.priorities.restore(state)
