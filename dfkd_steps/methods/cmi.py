"""CMI: contrastive model inversion (Fang et al., IJCAI 2021, arXiv 2105.08584)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..models import hooks
from ..runtime.device import autocast
from ..runtime.errors import UserError
from ..schemas.fields import opt
from ..training import augment, views
from .base import Batch, Method
from .engines import image_losses, model_inversion, objective
from .engines.generator_inversion import new_generator, refine
from .engines.image_pool import ImagePool
from .engines.online_student import OnlineStudent
from .engines.samplers import UniformSampler


@dataclass
class CMIConfig(model_inversion.InversionOptions):
    """Batches from a generator that starts anew for each; a contrastive loss keeps an image unlike all earlier ones."""

    n: int = model_inversion.pool_samples(50000)
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
    latent: int = opt(256, "length of the latent vector", lo=1, hi=65536)
    width: int = opt(128, "channels of the generator", lo=2, hi=65536)


class CMI(Method):
    """A new generator for each batch, a pool whose oldest images are replaced, and a student that draws from it uniformly."""

    Config = CMIConfig

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.rounds = config.rounds
        self.objective = objective.Objective(config, teacher)
        self.discriminator = Discriminator(self)
        self.pool = ImagePool(config.n, teacher.description.image_shape, device)
        self.sampler = UniformSampler(self.pool)
        self.student = OnlineStudent(config, teacher, device)
        self.parts = {"student": self.student, "pool": self.pool, "discriminator": self.discriminator}

    def round(self, index: int):
        """A batch by ``steps`` steps from a new generator into the pool, then the student's steps."""
        config, discriminator = self.config, self.discriminator
        rng = self.rng("round", index)
        trains = index >= config.warmup
        targets = model_inversion.random_targets(self, rng)
        generator = new_generator(config, self.teacher, self.seed_of("generator", index), self.device)
        latent, _ = generator.draw(config.batch, rng)

        def loss_of(images):
            with self.student.frozen() as student, hooks.feature_maps(self.teacher) as maps:
                outputs = self.objective.forward(
                    views.view(config.view, images, rng), targets, student if trains else None
                )  # fmt: skip
            terms = self.objective.terms(outputs)
            if config.contrastive:
                part = augment.affine(images, rng, degrees=0, scale=(1.2, 2.5), move=0.2)
                earlier = self.sampler.draw(config.bank, rng)[0] if len(self.pool) else []
                terms["contrastive"] = config.contrastive * discriminator.loss(channel_means(maps), part, earlier)
            return objective.total(terms)

        images = refine(
            generator, latent, loss_of, steps=config.steps, lr_g=config.lr_g, lr_z=config.lr_z, precision=config.precision,
            further=discriminator.net.parameters() if config.contrastive else (),
        )  # fmt: skip
        discriminator.remember(self.pool.places(len(images)), images)
        self.pool.add(images, index)
        return model_inversion.train_student(self.student, self.sampler, index, rng) if trains else None

    def batch(self, index: int) -> Batch:
        """The next images of the pool."""
        return self.pool.batch(self.rows(index))

    def networks(self) -> dict:
        """The student after the last round."""
        return {"student": self.student.net}


class Discriminator:
    """The instance discriminator: an embedding of the teacher's features (the channels' means in the last feature maps of each
    size, all stages of a ResNet), and a bank of the features of the pool's images, place by place."""

    EMBEDDED = 128

    def __init__(self, method):
        self.config, self.teacher, self.device = method.config, method.teacher, method.device
        with torch.no_grad():
            features = self.features(torch.zeros(1, *self.teacher.description.image_shape, device=self.device)).shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(method.seed_of("discriminator"))
            layers = nn.Linear(features, self.EMBEDDED), nn.ReLU(), nn.Linear(self.EMBEDDED, self.EMBEDDED)
            self.net = nn.Sequential(*layers).to(self.device)
        self.bank = torch.zeros(self.config.n, features, device=self.device)

    def features(self, images):
        """The teacher's features (N,D) of images."""
        with hooks.feature_maps(self.teacher) as maps, autocast(self.device, self.config.precision):
            self.teacher(images)
        return channel_means(maps)

    def embed(self, features):
        """Unit vectors (N,128) that tell one image from another."""
        return F.normalize(self.net(features), dim=1)

    def loss(self, features, part, earlier):
        """The contrastive loss between features (N,D) of images and an enlarged part of each (N,C,H,W), against earlier images:
        rows of the bank."""
        own, other = self.embed(features), self.embed(self.features(part))
        return image_losses.contrastive(own, other, self.embed(self.bank[earlier]), self.config.tau_c)

    def remember(self, places, images):
        """Put the features of images into places of the bank."""
        with torch.no_grad():
            self.bank[places] = self.features(images)

    def state(self) -> dict:
        """Its weights and the bank."""
        return {"net": self.net.state_dict(), "bank": self.bank.clone()}

    def restore(self, state: dict):
        """Go on from ``state``."""
        self.net.load_state_dict(state["net"])
        self.bank.copy_(state["bank"])


def channel_means(maps: dict):
    """The mean of each channel of feature maps {size: (N,C,H,W)}, all sizes side by side. -> (N,D)."""
    if not maps:
        raise UserError("transfer: cmi: the teacher has no feature maps to tell images apart by; use another teacher or method")
    return torch.cat([maps[size].float().mean((2, 3)) for size in sorted(maps)], 1)
