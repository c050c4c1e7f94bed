"""The config of the method CMI (``methods.cmi``)."""

from dataclasses import dataclass

from ..fields import opt
from .options import model_inversion, objective


@dataclass
class CMIConfig(model_inversion.InversionOptions):
    """Batches from a generator that is reinitialised for each; a contrastive loss keeps images unlike all earlier ones."""

    n: int = model_inversion.pool_samples(51200)
    bn: float = objective.weight("bn", 1.0)
    onehot: float = objective.weight("onehot", 1.0)
    adversarial: float = objective.weight("adversarial", 0.5)
    distance: str = objective.distance("decision")
    contrastive: float = opt(0.8, "weight of the contrastive loss on features of two views (0 = off)", lo=0)
    tau_c: float = opt(0.1, "temperature of the contrastive loss", above=0, hi=10)
    bank: int = opt(4096, "earlier images that each image is compared with in every step", lo=0)
    steps: int = opt(200, "steps on the generator and the latent vectors per batch", lo=1)
    lr_g: float = opt(1e-3, "learning rate of the generator and of the head of the contrastive loss (Adam)", above=0, hi=10)
    lr_z: float = opt(1e-3, "learning rate of the latent vectors (Adam)", above=0, hi=10)
    latent: int = opt(256, "length of the latent vector", lo=1, hi=65536)
    width: int = opt(128, "channels of the generator", lo=2, hi=65536)
