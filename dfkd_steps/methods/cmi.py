"""CMI: contrastive model inversion (Fang et al., IJCAI 2021, arXiv 2105.08584)."""

import contextlib

import torch

from ..models.generator import initialize_dcgan
from ..runtime.device import compiled
from ..schemas.transfer.cmi import CMIConfig
from ..training import views
from ..training.augment import resized_crop
from .engines import objective
from .engines.generator_inversion import new_generator, refine, renewed
from .engines.instance_discriminator import InstanceDiscriminator
from .engines.model_inversion import ModelInversion


class CMI(ModelInversion):
    """A new generator for each batch, a pool whose oldest images are replaced, and a student that draws from it uniformly."""

    Config = CMIConfig

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.discriminator = InstanceDiscriminator(config, self.objective.teacher, device) if config.contrastive else None
        self.add_parts(discriminator=self.discriminator)
        self.inverting = compiled(self.new_generator(0))

    def new_generator(self, index: int):
        """The generator of a round, with its first weights."""
        generator = new_generator(self.config, self.teacher, self.seed_of("generator", index), self.device)
        initialize_dcgan(generator, self.rng("generator", index))
        return generator

    def round(self, index: int):
        """A batch by ``steps`` steps from a new generator into the pool, then the student's steps."""
        config, discriminator = self.config, self.discriminator
        rng = self.rng("round", index)
        targets = self.random_targets(rng)
        generator = renewed(self.inverting, self.new_generator(index))
        latent, _ = generator.draw(config.batch, rng)

        def loss_of(images):
            watch = discriminator.watch() if discriminator else contextlib.nullcontext()
            with watch as features:
                outputs = self.forward(views.view(config.view, images, rng), targets, index)
                whole = features and features()
            terms = self.objective.terms(outputs)
            if discriminator:
                part = discriminator.features(resized_crop(images, rng))
                terms["contrastive"] = config.contrastive * discriminator.loss(part, whole, rng)
            return objective.total(terms)

        images = refine(
            generator, latent, loss_of, steps=config.steps, lr_g=config.lr_g, lr_z=config.lr_z, precision=config.precision,
            after=discriminator and discriminator.step,
        )  # fmt: skip
        if discriminator:
            with torch.no_grad():
                seen = resized_crop(images, rng), views.view(config.view, images, rng)
                discriminator.remember(*map(discriminator.features, seen))
        self.pool.add(images, index)
        return self.train_student(index, rng)
