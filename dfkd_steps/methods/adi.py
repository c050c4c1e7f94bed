"""Adaptive DeepInversion (Yin et al., CVPR 2020, arXiv 1912.08795, sec. 3.3)."""

from ..schemas.transfer.adi import ADIConfig
from .base import Batch, Method
from .engines import model_inversion, objective, pixel_inversion, stored_answers
from .engines.image_pool import ImagePool
from .engines.online_student import OnlineStudent
from .engines.samplers import UniformSampler


class ADI(Method):
    """Pixel inversion, a pool whose oldest images are replaced, and a student that draws from it uniformly."""

    Config = ADIConfig
    betas = (0.5, 0.99)  # of CMI's comparison

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.rounds = config.rounds
        self.objective = objective.Objective(config, teacher)
        self.pool = ImagePool(config.n, teacher.description.image_shape, device)
        self.sampler = UniformSampler(self.pool)
        self.student = OnlineStudent(config, teacher, device)
        self.answers = stored_answers.build(config, self.pool, self.student)
        self.parts = {"student": self.student, "pool": self.pool}
        if self.answers:
            self.parts["answers"] = self.answers

    def round(self, index: int):
        """A batch of pixels for random labels into the pool, then the student's steps."""
        config = self.config
        rng = self.rng("round", index)
        trains = index >= config.warmup
        targets = model_inversion.random_targets(self, rng)

        def loss_of(images):
            with self.student.frozen() as student:
                return self.objective(images, targets, student if trains else None)

        self.pool.add(pixel_inversion.invert(config, self.teacher, config.batch, loss_of, self.betas, rng), index)
        return model_inversion.train_student(self.student, self.sampler, index, rng, self.answers) if trains else None

    def batch(self, index: int) -> Batch:
        """The next images of the pool."""
        return self.pool.batch(self.rows(index))

    def networks(self) -> dict:
        """The student after the last round."""
        return {"student": self.student.net}
