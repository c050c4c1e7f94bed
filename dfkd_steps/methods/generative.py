"""LS-GDFD: large-scale generative data-free distillation (Luo et al., 2020, arXiv 2012.05578)."""

import torch

from ..models.generator import build_generator
from ..runtime.device import autocast, compiled, kept, next_step
from ..runtime.errors import UserError
from ..runtime.seeds import seed_of
from ..schemas.transfer.generative import LSGDFDConfig
from ..storage import checkpoint
from ..training import loop, views
from .base import Batch, Method
from .engines import objective


class Member:
    """One generator of the ensemble; depends on the seed and its own number alone."""

    def __init__(self, config, teacher, device, number: int):
        classes = range(teacher.description.num_classes)[number :: config.members]
        seed = seed_of(config.method, config.seed, "generator", number)
        net = build_generator(
            teacher.description, latent=config.latent, width=config.width, arch="gdfd", classes=classes, seed=seed
        )
        self.net = compiled(net.to(device, memory_format=torch.channels_last))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.lr, betas=(0.5, 0.999), fused=True)


class LSGDFD(Method):
    """Trains the members one after the other; the set holds as many samples of each, in order."""

    Config = LSGDFDConfig

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        if config.members > (classes := teacher.description.num_classes):
            raise UserError(f"transfer: members: {config.members} is more than the {classes} classes; give at most {classes}")
        self.rounds = config.members * config.rounds_each
        self.objective = objective.Objective(config, teacher)
        self.trained = set()
        self.members = [Member(config, teacher, device, number) for number in range(config.members)]

    def round(self, index: int):
        """``steps`` steps of the member whose turn it is."""
        config = self.config
        number, own_index = divmod(index, config.rounds_each)
        member = self.members[number]
        rng = self.rng("round", number, own_index)
        member.net.train()
        summed = torch.zeros((), device=self.device)
        for step in range(config.steps):
            latent, targets = member.net.draw(config.train_batch, rng)
            with autocast(self.device, config.precision):
                images = member.net(latent, targets)
            loss = self.objective(views.view(config.view, images, rng), targets)
            progress = (own_index + step / config.steps) / config.rounds_each
            loop.advance(member.net, member.optimizer, loss, loop.half_cosine(config.lr, progress))
            summed += loss.detach()
        member.net.eval()
        self.trained.add(number)
        mean = summed.item() / config.steps
        objective.require_finite(mean, f"{config.method}: member {number}, round {own_index + 1}", "lower lr")
        return {"generator": mean}

    def _place(self, index: int) -> tuple[int, int]:
        """The member that makes a batch, and the batch's number among its own."""
        for number, batches in enumerate(self.partitions()):
            if index in batches:
                return number, index - batches.start
        raise IndexError(index)

    def _samples(self, number: int) -> range:
        """The samples of a member, by their number in the set: an equal part, in order."""
        n, members = self.config.n, len(self.members)
        return range(number * n // members, (number + 1) * n // members)

    def partitions(self) -> list[range]:
        """The batches of each member."""
        parts = []
        start = 0
        for number in range(len(self.members)):
            stop = start - (-len(self._samples(number)) // self.config.batch)
            parts.append(range(start, stop))
            start = stop
        return parts

    def rounds_for(self, batches: range) -> range:
        """The rounds of the members that make these batches."""
        first = self._place(batches.start)[0]
        last = self._place(batches.stop - 1)[0]
        return range(first * self.config.rounds_each, (last + 1) * self.config.rounds_each)

    def count(self) -> int:
        """Batches of all members."""
        return self.partitions()[-1].stop

    def rows(self, index: int) -> range:
        """The samples of a batch; all of one member."""
        number, own_index = self._place(index)
        return self._samples(number)[own_index * self.config.batch : (own_index + 1) * self.config.batch]

    def batch(self, index: int) -> Batch:
        """Samples of the member whose batch it is."""
        images, _ = self.members[self._place(index)[0]].net.sample(len(self.rows(index)), self.rng("batch", index))
        images = kept(images)
        next_step()
        return Batch(images)

    def networks(self) -> dict:
        """The members that were trained."""
        return {f"generator-{number}": self.members[number].net for number in sorted(self.trained)}

    def state(self) -> dict:
        """The members that were trained, and their moments."""
        trained = {number: self.members[number] for number in sorted(self.trained)}
        return {"members": {number: checkpoint.state_of(member.net, member.optimizer) for number, member in trained.items()}}

    def restore(self, state: dict):
        """Go on from ``state``."""
        for number, trained in state["members"].items():
            member = self.members[number]
            checkpoint.restore(member.net, member.optimizer, trained)
            member.net.eval()
            self.trained.add(number)
