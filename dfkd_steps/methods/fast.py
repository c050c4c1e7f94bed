"""Fast: up to 100x faster data-free knowledge distillation (Fang et al., AAAI 2022, arXiv 2112.06253)."""

from dataclasses import dataclass

import torch

from .. import augment, checkpoint, objective
from ..fields import opt
from ..inversion import Inversion, InversionConfig, new_generator, refine


@dataclass
class FastConfig(InversionConfig):
    """The fields of the meta-learned inversion, which SSD-KD uses too."""

    bn: float = objective.weight("bn", 10.0)
    onehot: float = objective.weight("onehot", 0.4)
    balance: float = objective.weight("balance", 0.0)
    moments: float = objective.weight("moments", 0.0)
    adversarial: float = objective.weight("adversarial", 1.1)
    distance: str = objective.distance("decision")
    steps: int = opt(5, "steps on generator and latent vectors for a batch", lo=1)
    lr_g: float = opt(3e-3, "Adam step of the generator for a batch (5e-3 for 2 steps, 3e-3 for 5, 2e-3 for 10)", above=0, hi=10)
    lr_z: float = opt(0.01, "Adam step of the latent vectors (0.015, 0.01, 0.01)", above=0, hi=10)
    latent: int = opt(256, "length of the latent vector", lo=1)
    width: int = opt(128, "channels of the generator", lo=2)
    ema: float = opt(0.9, "share of the past in the BatchNorm statistics that are matched (0 = this batch alone)", lo=0, hi=0.999)


@dataclass
class Config(FastConfig):
    """Batches from a generator that is meta-learned to need only a few steps for each."""


class Meta(Inversion):
    """A generator that is kept from round to round: each batch starts from a copy of it, and the gradients of the copy,
    summed over the steps, move it (first-order MAML)."""

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.objective.ema = config.ema
        self.maker = new_generator(self)
        # The public code takes lr_g * steps for the meta update, since it sums the gradients of all steps.
        lr = config.lr_g * config.steps
        self.optimizer = torch.optim.Adam(self.maker.parameters(), lr=lr, betas=(0.5, 0.999), fused=True)

    def loss_of(self, images, wanted, index: int, generator):
        """The loss of a view of images."""
        return objective.total(self.terms(augment.view(self.config.view, images, generator), wanted, index))

    def invert(self, index: int, generator):
        """A batch by ``steps`` steps of a copy of the generator, and one meta step."""
        config, copy = self.config, new_generator(self)
        copy.load_state_dict(self.maker.state_dict())
        wanted = self.wanted(generator)
        latent, _ = copy.draw(config.batch, generator)
        sums = [torch.zeros_like(one) for one in copy.parameters()]

        def gather(step):
            for summed, one in zip(sums, copy.parameters()):
                summed += one.grad

        images = refine(
            copy, latent, lambda images: self.loss_of(images, wanted, index, generator),
            steps=config.steps, lr_g=config.lr_g, lr_z=config.lr_z, precision=config.precision, after=gather,
        )  # fmt: skip
        for one, summed in zip(self.maker.parameters(), sums):
            one.grad = summed
        self.optimizer.step()
        for own, others in zip(self.maker.buffers(), copy.buffers()):
            own.copy_(others)
        self.objective.remember()
        return images

    def networks(self) -> dict:
        """The student, and the generator as it is between two batches."""
        return {**super().networks(), "generator": self.maker}

    def state(self) -> dict:
        """Also the generator, its moments and the averages of the statistics."""
        maker = checkpoint.state_of(self.maker, self.optimizer)
        return {**super().state(), "maker": maker, "averages": self.objective.averages}

    def restore(self, state: dict):
        """Go on from ``state``."""
        super().restore(state)
        checkpoint.restore(self.maker, self.optimizer, state["maker"])
        self.objective.averages = [[one.to(self.device) for one in pair] for pair in state["averages"]]


class Method(Meta):
    """As published."""
