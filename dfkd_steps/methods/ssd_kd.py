"""SSD-KD: small-scale data-free knowledge distillation (Liu et al., CVPR 2024, arXiv 2406.07876).

No code was released and the paper's formulas were not to hand: modulation, priorities and renewal are reconstructions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..runtime.device import autocast
from ..schemas.fields import changed, opt
from ..training import losses
from ..training.priority_sampling import Priorities
from .engines.renewal import ACTIONS, Agent
from .fast import FastConfig, Meta


@dataclass
class Config(FastConfig):
    """Fast inversion into a small buffer that is renewed in part, when it pays, with what is rare and hard."""

    n: int = changed(FastConfig, "n", 5000)
    diversity: float = opt(1.0, "weight of rare images: exponent of (1 - share of their class in the buffer)", lo=0, hi=10)
    gamma: float = opt(2.0, "weight of hard images: exponent of (1 - teacher's probability)", lo=0, hi=10)
    priority: bool = opt(True, "the student draws by priority, with importance weights; else uniformly")
    beta: float = opt(0.5, "exponent of the importance weights (0 = none, 1 = full correction)", lo=0, hi=1)
    renewal: str = opt(
        "learnt", "when and what to renew: learnt by reward; all = a whole batch each round", choices=("learnt", "all")
    )
    explore: float = opt(0.2, "share of random renewals while learning which pay", lo=0, hi=1)
    price: float = opt(0.0, "new images pay if they are harder than those they replace by this share of the mean", lo=0, hi=10)


class Method(Meta):
    """The buffer is the transfer set: few images, as the student needed them last."""

    SAMPLE = 1024  # images that the difficulty of the buffer is estimated from

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.labels = torch.zeros(config.n, dtype=torch.int64, device=device)
        self.priorities = Priorities(config.n, device, config.beta)
        self.agent, self.last = Agent(config.explore, config.price), {"loss": None, "state": 0}

    def phi(self, logits, labels):
        """The modulating function: rare in the buffer, and hard. Logits (N,K), labels (N) -> (N), mean 1."""
        held = self.labels[: len(self.pool)]
        # Not by bincount, which waits for a GPU to say how many bins it needs: this runs in each step of an inversion.
        counts = torch.zeros(logits.shape[1], device=held.device).index_add_(0, held, torch.ones_like(held, dtype=torch.float32))
        share = counts[labels] / max(1, len(held))
        # 1 - p as the sum of the others, in double: of images that the teacher is sure of it would round to 0.
        chance = F.softmax(logits.double(), 1)
        unsure = chance.scatter(1, chance.argmax(1, keepdim=True), 0.0).sum(1)
        value = (1 - share).pow(self.config.diversity) * unsure.pow(self.config.gamma)
        return (value / value.mean().clamp_min(torch.finfo(value.dtype).tiny)).float()

    def terms(self, images, wanted, index: int) -> dict:
        """The losses of Fast, each sample weighted by phi."""
        with self.learner.frozen() as student:
            seen = self.objective.look(images, wanted, student)
        made = self.objective.terms(seen, self.phi(seen.logits.detach(), wanted))
        return self.without_student(made, index)

    def ask(self, images):
        """The teacher's logits and the student's KL to it, for images."""
        with torch.no_grad(), autocast(self.device, self.config.precision):
            logits = self.teacher(images).float()
            return logits, losses.kd_each(self.learner.net(images).float(), logits, self.config.tau)

    def difficulty(self, rows) -> float:
        """Mean of phi times the student's KL over rows of the buffer."""
        logits, each = self.ask(self.pool.read(rows))
        return (self.phi(logits, self.labels[rows]) * each).mean().item()

    def round(self, index: int):
        """Renew what pays to be renewed, then the student's steps."""
        rng, config = self.rng("round", index), self.config
        full = len(self.pool) == config.n
        if not full or config.renewal == "all" or not self.warm(index):
            self.fill(self.invert(index, rng), index)
            return self.study(index, rng) if self.warm(index) else None
        state, draws = self.last["state"], torch.Generator().manual_seed(self.seed_of("renewal", index))
        action = self.agent.choose(state, draws)
        # The same rows before and after, so that nothing is gained where nothing was renewed.
        looked_at = self.pool.draw(min(self.SAMPLE, len(self.pool)), rng)
        before = self.difficulty(looked_at)
        if ACTIONS[action].share:
            self.renew(ACTIONS[action], self.invert(index, rng), index, rng)
        # By image renewed, not by image of the buffer, so that what pays does not depend on how large that is.
        gain = (self.difficulty(looked_at) - before) / max(before, 1e-12) * config.n / config.batch
        told = self.study(index, rng)
        self.agent.learn(state, action, gain, self.last["state"])
        return f"{told}, renewed {ACTIONS[action].share:g}"

    def fill(self, images, index: int):
        """All of a batch into the next places."""
        self.put(self.pool.places(len(images)), images, index)

    def put(self, places, images, index: int):
        """Images into places of the buffer, with no priority yet."""
        self.pool.put(places, images, index)
        self.labels[places] = self.ask(self.pool.read(places))[0].argmax(1)
        self.priorities.forget(places)

    def renew(self, action, images, index: int, rng):
        """A share of a batch, by phi, in place of what the student knows best or of what is oldest."""
        number = max(1, round(action.share * len(images)))
        logits, _ = self.ask(images)
        chance = self.phi(logits, logits.argmax(1)) + 1e-6
        chosen = torch.multinomial(chance, number, generator=rng)
        worth = self.priorities.probabilities() if action.easy else self.pool.generation.float()
        self.put(worth.argsort(stable=True)[:number], images[chosen], index)

    def study(self, index: int, rng):
        """``steps_s`` student steps, by priority or not; keeps how the loss has moved."""
        config, summed = self.config, torch.zeros((), device=self.device)
        for step in range(config.steps_s):
            if config.priority:
                rows, weights = self.priorities.draw(config.batch_s, rng, len(self.pool))
            else:
                rows, weights = self.pool.draw(config.batch_s, rng), None
            each = self.learn(rows, self.progress(index, step), rng, weights)
            self.priorities.visited(rows, 1.0 if weights is None else weights, each)
            summed += each.mean()
        mean = self.checked(summed.item() / config.steps_s, index)
        self.last = {"loss": mean, "state": Agent.state_of(mean, self.last["loss"])}
        return f"student {mean:.4f}"

    def about(self) -> dict:
        """Also what was learnt about renewal."""
        return {**super().about(), "renewal_values": self.agent.values.tolist()}

    def state(self) -> dict:
        """Also labels, priorities and what was learnt about renewal."""
        filled = len(self.pool)
        buffer = {"labels": self.labels[:filled].clone(), "delta": self.priorities.delta.clone()}
        return {**super().state(), "buffer": buffer, "values": self.agent.values.clone(), "last": dict(self.last)}

    def restore(self, state: dict):
        """Go on from ``state``."""
        super().restore(state)
        self.labels[: len(self.pool)] = state["buffer"]["labels"].to(self.device)
        self.priorities.delta.copy_(state["buffer"]["delta"])
        self.agent.values, self.last = state["values"], state["last"]
