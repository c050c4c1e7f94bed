"""LS-GDFD: large-scale generative data-free distillation (Luo et al., 2020, arXiv 2012.05578)."""

from dataclasses import dataclass

import torch

from .. import generators, objective, runtime, training
from ..fields import opt
from ..learner import require_finite
from .base import Batch, TransferConfig
from .base import Method as Base


@dataclass
class Config(TransferConfig):
    """Class-conditional generators, trained without any student to reproduce the teacher's normalisation statistics."""

    bn: float = objective.weight("bn", 1.0)
    bn_kl: float = objective.weight("bn_kl", 0.0)
    moments: float = objective.weight("moments", 0.0)
    onehot: float = objective.weight("onehot", 1.0)
    members: int = opt(1, "generators; the classes are dealt out among them in turn", lo=1)
    rounds_each: int = opt(40, "rounds of `steps` steps for each member", lo=1)
    steps: int = opt(50, "generator steps in a round", lo=1)
    train_batch: int = opt(256, "images in a generator step", lo=2)
    latent: int = opt(100, "length of the latent vector", lo=1)
    width: int = opt(128, "channels of the generator", lo=2)
    head: str = opt(
        "normal", "end of the generator: sigmoid, or batch-normalised to the data's mean and std", choices=("sigmoid", "normal")
    )
    lr: float = opt(1e-3, "peak Adam step of the generator; half a cosine over its rounds", above=0, hi=10)
    precision: str = opt("fp32", "bf16 = autocast", choices=("fp32", "bf16"))


class Member:
    """One generator of the ensemble; depends on the seed and its own number alone."""

    def __init__(self, config, teacher, device, number: int, members: int):
        classes = range(teacher.description.num_classes)[number::members]
        seed = runtime.seed_of(config.method, config.seed, "generator", number)
        made = generators.build(
            teacher.description, latent=config.latent, width=config.width, head=config.head, classes=classes, seed=seed
        )
        self.net = made.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.lr, betas=(0.5, 0.999), fused=True)


class Method(Base):
    """Trains the members one after the other; the set holds as many samples of each."""

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        members = min(config.members, teacher.description.num_classes)
        self.rounds = members * config.rounds_each
        self.objective = objective.Objective(config, teacher)
        self.members = [Member(config, teacher, device, number, members) for number in range(members)]

    def round(self, index: int):
        """``steps`` steps of the member whose turn it is."""
        config, (number, own) = self.config, divmod(index, self.config.rounds_each)
        member, generator = self.members[number], self.generator("round", number, own)
        member.net.train()
        summed = torch.zeros((), device=self.device)
        for step in range(config.steps):
            latent, wanted = member.net.draw(config.train_batch, generator)
            with runtime.autocast(self.device, config.precision):
                images = member.net(latent, wanted).contiguous(memory_format=torch.channels_last)
            loss = self.objective(images, wanted)
            progress = (own + step / config.steps) / config.rounds_each
            training.advance(member.net, member.optimizer, loss, training.half_cosine(config.lr, progress))
            summed += loss.detach()
        member.net.eval()
        mean = summed.item() / config.steps
        require_finite(mean, f"{config.method}: member {number}, round {own + 1}", "lower lr")
        return f"member {number}: {mean:.4f}"

    def batch(self, index: int) -> Batch:
        """Samples of all members; sample j is of member j mod members."""
        rows, generator = torch.tensor(self.rows(index)), self.generator("batch", index)
        images = torch.empty(len(rows), *self.teacher.description.image_shape, device=self.device)
        for number, member in enumerate(self.members):
            own = rows % len(self.members) == number
            if own.any():
                images[own.to(self.device)] = member.net.sample(int(own.sum()), generator)[0]
        return Batch(images)

    def networks(self) -> dict:
        """All members."""
        return {f"generator-{number}": member.net for number, member in enumerate(self.members)}

    def state(self) -> dict:
        """All members and their moments."""
        return {"members": [{"net": one.net.state_dict(), "optimizer": one.optimizer.state_dict()} for one in self.members]}

    def restore(self, state: dict):
        """Go on from ``state``."""
        for member, kept in zip(self.members, state["members"], strict=True):
            member.net.load_state_dict(kept["net"])
            member.net.eval()
            member.optimizer.load_state_dict(kept["optimizer"])
