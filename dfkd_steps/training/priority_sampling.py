"""Prioritised sampling: images with a large loss are drawn more often, with importance weights that correct for it (SSD-KD)."""

import torch

EPS = 1e-3  # keeps every probability above 0


class Priorities:
    """One priority |delta| for each of N images, as in prioritised experience replay (arXiv 1511.05952); for SSD-KD
    (arXiv 2406.07876) a reconstruction: delta(x) = w(x) KL(T(x) || S(x)) at the last visit, P(x) ~ |delta| + eps,
    w(x) = (N P(x))^-beta over its mean in the batch. An image not visited yet has the largest priority there is.

    w is normalised by its mean in the batch, not by its maximum as in replay: the maximum belongs to the best-learnt image and
    would shrink all steps.
    """

    def __init__(self, number: int, device, beta: float):
        self.delta = torch.full((number,), float("nan"), device=device)
        self.beta = beta

    def probabilities(self, number: int | None = None):
        """P(x) of the first ``number`` images (all). -> (number)."""
        delta = self.delta[:number]
        largest = torch.where(delta.isnan(), 0.0, delta).amax()
        weight = torch.where(delta.isnan(), torch.where(largest > 0, largest, 1.0), delta) + EPS
        return weight / weight.sum()

    def draw(self, batch: int, rng, number: int | None = None):
        """``batch`` rows of the first ``number`` images by priority, and their importance weights (batch), with mean 1."""
        chance = self.probabilities(number)
        rows = torch.multinomial(chance, batch, replacement=True, generator=rng)
        weights = (len(chance) * chance[rows]).pow(-self.beta)
        return rows, weights / weights.mean()

    def visited(self, rows, weights, losses):
        """Record the losses (batch) of rows, and the weights that they were drawn with."""
        self.delta[rows] = weights * losses

    def forget(self, rows):
        """Reset rows whose image is a new one."""
        self.delta[rows] = float("nan")

    def state(self) -> dict:
        """The priorities."""
        return {"delta": self.delta.clone()}

    def restore(self, state: dict):
        """Go on from ``state``."""
        self.delta.copy_(state["delta"])
