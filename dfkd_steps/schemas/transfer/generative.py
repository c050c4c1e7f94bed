"""The config of the method LSGDFD (``methods.generative``)."""

from dataclasses import dataclass

from ..choices import precision_field
from ..fields import opt
from .base import TransferConfig, batch_size, samples
from .options import generator, objective


@dataclass
class LSGDFDConfig(generator.GeneratorOptions, TransferConfig):
    """Class-conditional generators, trained without a student to reproduce the teacher's normalisation statistics."""

    n: int = samples(24000)
    batch: int = batch_size(500)
    bn: float = objective.weight("bn", 1.0)
    bn_kl: float = objective.weight("bn_kl", 0.0)
    moments: float = objective.weight("moments", 0.0)
    onehot: float = objective.weight("onehot", 1.0)
    latent: int = generator.latent(100)
    members: int = opt(1, "generators; the classes are distributed among them in turn", lo=1)
    rounds_each: int = opt(40, "rounds of `steps` steps per generator", lo=1)
    steps: int = opt(50, "generator steps per round", lo=1)
    train_batch: int = opt(256, "images per generator step", lo=2)
    lr: float = opt(1e-3, "peak learning rate of the generator (Adam); falls by half a cosine over its rounds", above=0, hi=10)
    precision: str = precision_field()

    def check(self):
        if self.members > self.n:
            return f"members: {self.members} generators for n: {self.n} samples; lower members or raise n"
        return None

    def max_shards(self) -> int:
        """The members."""
        return self.members

    def training_steps(self) -> int:
        """Of all members."""
        return self.members * self.rounds_each * self.steps
