"""Fast: up to 100x faster data-free knowledge distillation (Fang et al., AAAI 2022, arXiv 2112.06253)."""

from ..models.tasks import TASKS
from ..schemas.transfer.fast import FastConfig
from ..training import views
from .base import Batch, Method
from .engines import channel_exchange, model_inversion, objective, stored_answers
from .engines.generator_inversion import MetaInverter, new_generator
from .engines.image_pool import ImagePool
from .engines.online_student import OnlineStudent
from .engines.samplers import UniformSampler


class Fast(Method):
    """A meta-learnt inverter, a pool whose oldest images are replaced, and a student that draws from it uniformly."""

    Config = FastConfig
    tasks = TASKS

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.rounds = config.rounds
        self.objective = objective.Objective(config, teacher, config.ema)
        self.inverter = MetaInverter(config, new_generator(config, teacher, self.seed_of("generator"), device))
        self.pool = ImagePool(config.n, teacher.description.image_shape, device)
        self.sampler = UniformSampler(self.pool)
        self.student = OnlineStudent(config, teacher, device, floor=model_inversion.FAST_FLOOR)
        self.answers = stored_answers.build(config, self.pool, self.student)
        self.parts = {"student": self.student, "pool": self.pool, "inverter": self.inverter, "objective": self.objective}
        self.exchanged = channel_exchange.build(config, self.pool, self.inverter)
        self.parts |= {name: part for name, part in (("answers", self.answers), ("exchanged", self.exchanged)) if part}

    def round(self, index: int):
        """A batch into the pool, then the student's steps."""
        rng = self.rng("round", index)
        trains = index >= self.config.warmup
        targets = model_inversion.random_targets(self, rng)

        def loss_of(images):
            with self.student.frozen() as student:
                return self.objective(views.view(self.config.view, images, rng), targets, student if trains else None)

        places = self.pool.places(self.config.batch)
        self.pool.put(places, self.inverter.invert(loss_of, index, rng), index)
        if self.exchanged:
            self.exchanged.put(places, self.inverter.latent)
        self.objective.remember()
        if not trains:
            return None
        return model_inversion.train_student(self.student, self.sampler, index, rng, self.answers, self.exchanged)

    def batch(self, index: int) -> Batch:
        """The next images of the pool."""
        return self.pool.batch(self.rows(index))

    def networks(self) -> dict:
        """The student after the last round, and the generator as it is between two batches."""
        return {"student": self.student.net, "generator": self.inverter.generator}
