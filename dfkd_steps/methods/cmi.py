"""CMI: contrastive model inversion (Fang et al., IJCAI 2021, arXiv 2105.08584)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..models import hooks
from ..runtime.device import autocast
from ..runtime.errors import UserError
from ..schemas.fields import changed, opt
from ..training import augment, losses, views
from .engines import objective
from .engines.model_inversion import Inversion, InversionConfig, new_generator, refine


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
    """The instance discriminator looks at the channels' means in the last feature maps of each size, all stages of a ResNet."""

    EMBEDDED = 128

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        with torch.no_grad():
            features = self.features(torch.zeros(1, *teacher.description.image_shape, device=device)).shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_of("discriminator"))
            layers = nn.Linear(features, self.EMBEDDED), nn.ReLU(), nn.Linear(self.EMBEDDED, self.EMBEDDED)
            self.discriminator = nn.Sequential(*layers).to(device)
        self.bank = torch.zeros(config.n, features, device=device)  # features of the pool's images, place by place

    def features(self, images):
        """The teacher's features (N,D) of images."""
        with hooks.feature_maps(self.teacher) as maps, autocast(self.device, self.config.precision):
            self.teacher(images)
        return means(maps)

    def embed(self, features):
        """Unit vectors (N,128) that tell one image from another."""
        return F.normalize(self.discriminator(features), dim=1)

    def contrast(self, seen, images, rng):
        """The contrastive loss between images as a view of them was ``seen`` (N,D) and an enlarged part of each, against earlier
        images."""
        part = self.features(augment.affine(images, rng, degrees=0, scale=(1.2, 2.5), move=0.2))
        earlier = self.bank[:0]
        if len(self.pool):
            earlier = self.bank[self.pool.draw(self.config.bank, rng)]
        return losses.contrastive(self.embed(seen), self.embed(part), self.embed(earlier), self.config.tau_c)

    def invert(self, index: int, rng):
        """A batch by ``steps`` steps from a new generator."""
        config, wanted = self.config, self.wanted(rng)
        generator = new_generator(self, index)
        latent, _ = generator.draw(config.batch, rng)

        def loss_of(images):
            with hooks.feature_maps(self.teacher) as maps:
                terms = self.terms(views.view(config.view, images, rng), wanted, index)
            if config.contrastive:
                terms["contrastive"] = config.contrastive * self.contrast(means(maps), images, rng)
            return objective.total(terms)

        images = refine(
            generator, latent, loss_of, steps=config.steps, lr_g=config.lr_g, lr_z=config.lr_z, precision=config.precision,
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


def means(maps: dict):
    """The mean of each channel of feature maps {size: (N,C,H,W)}, all sizes side by side. -> (N,D)."""
    if not maps:
        raise UserError("transfer: cmi: the teacher has no feature maps to tell images apart by; use another teacher or method")
    return torch.cat([maps[size].float().mean((2, 3)) for size in sorted(maps)], 1)
