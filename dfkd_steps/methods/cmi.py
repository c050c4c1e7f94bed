"""CMI: contrastive model inversion (Fang et al., IJCAI 2021, arXiv 2105.08584)."""

import contextlib

import torch

from ..models.generator import initialize_dcgan
from ..schemas.transfer.cmi import CMIConfig
from ..training import views
from ..training.augment import resized_crop
from .base import Batch, Method
from .engines import model_inversion, objective, stored_answers
from .engines.generator_inversion import new_generator, refine
from .engines.image_pool import ImagePool
from .engines.instance_discriminator import InstanceDiscriminator
from .engines.online_student import OnlineStudent
from .engines.samplers import UniformSampler


class CMI(Method):
    """A new generator for each batch, a pool whose oldest images are replaced, and a student that draws from it uniformly."""

    Config = CMIConfig

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.rounds = config.rounds
        self.objective = objective.Objective(config, teacher)
        self.discriminator = InstanceDiscriminator(config, self.objective.teacher, device) if config.contrastive else None
        self.pool = ImagePool(config.n, teacher.description.image_shape, device)
        self.sampler = UniformSampler(self.pool)
        self.student = OnlineStudent(config, teacher, device)
        self.answers = stored_answers.build(config, self.pool, self.student)
        parts = {"student": self.student, "pool": self.pool, "discriminator": self.discriminator, "answers": self.answers}
        self.parts = {name: part for name, part in parts.items() if part is not None}

    def round(self, index: int):
        """A batch by ``steps`` steps from a new generator into the pool, then the student's steps."""
        config, discriminator = self.config, self.discriminator
        rng = self.rng("round", index)
        trains = index >= config.warmup
        targets = model_inversion.random_targets(self, rng)
        generator = new_generator(config, self.teacher, self.seed_of("generator", index), self.device)
        initialize_dcgan(generator, self.rng("generator", index))
        latent, _ = generator.draw(config.batch, rng)

        def loss_of(images):
            watch = discriminator.watch() if discriminator else contextlib.nullcontext()
            with self.student.frozen() as student, watch as features:
                outputs = self.objective.forward(
                    views.view(config.view, images, rng), targets, student if trains else None
                )  # fmt: skip
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
        return model_inversion.train_student(self.student, self.sampler, index, rng, self.answers) if trains else None

    def batch(self, index: int) -> Batch:
        """The next images of the pool."""
        return self.pool.batch(self.rows(index))

    def networks(self) -> dict:
        """The student after the last round."""
        return {"student": self.student.net}
