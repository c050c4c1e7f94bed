"""CMI: contrastive model inversion (Fang et al., IJCAI 2021, arXiv 2105.08584)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .. import augment, losses, objective, probe, runtime
from ..fields import changed, opt
from ..inversion import Inversion, InversionConfig, new_generator, refine


@dataclass
class Config(InversionConfig):
    """Batches from a generator that starts anew for each; a contrastive loss keeps an image unlike all earlier ones."""

    bn: float = objective.weight("bn", 1.0)
    onehot: float = objective.weight("onehot", 1.0)
    adversarial: float = objective.weight("adversarial", 0.5)
    distance: str = objective.distance("decision")
    contrastive: float = opt(0.8, "weight of the contrastive loss on features of two views (0 = off)", lo=0)
    tau_c: float = opt(0.1, "temperature of the contrastive loss", above=0, hi=10)
    bank: int = opt(1024, "earlier images that an image is compared with in each step", lo=0)
    steps: int = opt(200, "steps on generator and latent vectors for a batch", lo=1)
    lr_g: float = opt(1e-3, "Adam step of the generator", above=0, hi=10)
    lr_z: float = opt(1e-2, "Adam step of the latent vectors", above=0, hi=10)
    latent: int = opt(256, "length of the latent vector", lo=1)
    width: int = opt(128, "channels of the generator", lo=2)
    n: int = changed(InversionConfig, "n", 50000)


class Method(Inversion):
    """The instance discriminator looks at the features that enter the classifier; the paper joins several layers."""

    EMBEDDED = 128

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.last = probe.last_linear(teacher.net, teacher.description.image_shape)
        features = self.last.in_features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_of("discriminator"))
            layers = nn.Linear(features, self.EMBEDDED), nn.ReLU(), nn.Linear(self.EMBEDDED, self.EMBEDDED)
            self.discriminator = nn.Sequential(*layers).to(device)
        self.bank = torch.zeros(config.n, features, device=device)  # features of the pool's images, place by place

    def features(self, images):
        """The teacher's features (N,D) before its classifier."""
        with probe.entering(self.last) as seen, runtime.autocast(self.device, self.config.precision):
            self.teacher(images)
        return seen[0].float()

    def embed(self, features):
        """Unit vectors (N,128) that tell one image from another."""
        return F.normalize(self.discriminator(features), dim=1)

    def contrast(self, images, generator):
        """The contrastive loss between a view of each image and an enlarged part of it, against earlier images."""
        whole = augment.view(self.config.view, images, generator)
        part = augment.affine(images, generator, degrees=0, scale=(1.2, 2.5), move=0.2)
        earlier = self.bank[:0]
        if len(self.pool):
            earlier = self.bank[self.pool.draw(self.config.bank, generator)]
        views = [self.embed(self.features(view)) for view in (whole, part)]
        return losses.contrastive(*views, self.embed(earlier), self.config.tau_c)

    def invert(self, index: int, generator):
        """A batch by ``steps`` steps from a new generator."""
        config, wanted = self.config, self.wanted(generator)
        maker = new_generator(self, index)
        latent, _ = maker.draw(config.batch, generator)

        def loss_of(images):
            terms = self.terms(augment.view(config.view, images, generator), wanted, index)
            if config.contrastive:
                terms["contrastive"] = config.contrastive * self.contrast(images, generator)
            return objective.total(terms)

        images = refine(
            maker, latent, loss_of, steps=config.steps, lr_g=config.lr_g, lr_z=config.lr_z, precision=config.precision,
            further=self.discriminator.parameters() if config.contrastive else (),
        )  # fmt: skip
        with torch.no_grad():
            self.bank[self.pool.places(len(images))] = self.features(images)
        return images

    def state(self) -> dict:
        """Also the discriminator and its bank."""
        kept = {"discriminator": self.discriminator.state_dict(), "bank": self.bank[: len(self.pool)].clone()}
        return {**super().state(), **kept}

    def restore(self, state: dict):
        """Go on from ``state``."""
        super().restore(state)
        self.discriminator.load_state_dict(state["discriminator"])
        self.bank[: len(self.pool)] = state["bank"].to(self.device)
