"""Fast: up to 100x faster data-free knowledge distillation (Fang et al., AAAI 2022, arXiv 2112.06253)."""

from dataclasses import dataclass

import torch

from ..schemas.fields import opt
from ..storage import checkpoint
from ..training import views
from .engines import objective
from .engines.model_inversion import Inversion, InversionConfig, new_generator, refine


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
        self.generator = new_generator(self)
        # The public code takes lr_g * steps for the meta update, since it sums the gradients of all steps.
        lr = config.lr_g * config.steps
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=lr, betas=(0.5, 0.999), fused=True)

    def loss_of(self, images, wanted, index: int, rng):
        """The loss of a view of images."""
        return objective.total(self.terms(views.view(self.config.view, images, rng), wanted, index))

    def invert(self, index: int, rng):
        """A batch by ``steps`` steps of a copy of the generator, and one meta step."""
        config, copy = self.config, new_generator(self)
        copy.load_state_dict(self.generator.state_dict())
        wanted = self.wanted(rng)
        latent, _ = copy.draw(config.batch, rng)
        sums = [torch.zeros_like(one) for one in copy.parameters()]

        def gather(step):
            for summed, one in zip(sums, copy.parameters()):
                summed += one.grad

        images = refine(
            copy, latent, lambda images: self.loss_of(images, wanted, index, rng),
            steps=config.steps, lr_g=config.lr_g, lr_z=config.lr_z, precision=config.precision, after=gather,
        )  # fmt: skip
        for one, summed in zip(self.generator.parameters(), sums):
            one.grad = summed
        self.optimizer.step()
        for own, others in zip(self.generator.buffers(), copy.buffers()):
            own.copy_(others)
        self.objective.remember()
        return images

    def networks(self) -> dict:
        """The student, and the generator as it is between two batches."""
        return {**super().networks(), "generator": self.generator}

    def state(self) -> dict:
        """Also the generator, its moments and the averages of the statistics."""
        generator = checkpoint.state_of(self.generator, self.optimizer)
        return {**super().state(), "generator": generator, "averages": self.objective.averages}

    def restore(self, state: dict):
        """Go on from ``state``."""
        super().restore(state)
        checkpoint.restore(self.generator, self.optimizer, state["generator"])
        self.objective.averages = [[one.to(self.device) for one in pair] for pair in state["averages"]]


class Method(Meta):
    """As published."""
