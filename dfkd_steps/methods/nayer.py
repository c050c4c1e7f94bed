"""NAYER: noisy layer data generation (Tran et al., CVPR 2024, arXiv 2310.00258)."""

from ..schemas.transfer.nayer import NAYERConfig
from ..training import views
from .base import Batch, Method
from .engines import label_inversion, model_inversion, objective, stored_answers
from .engines.image_pool import ImagePool
from .engines.online_student import OnlineStudent
from .engines.samplers import UniformSampler


class NAYER(Method):
    """An inverter that starts from labels, a pool whose oldest images are replaced, a student that draws from it uniformly."""

    Config = NAYERConfig

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.rounds = config.rounds
        self.drawn = ("label embeddings",) if config.embedding_file else ()
        self.objective = objective.Objective(config, teacher, config.ema)
        self.inverter = label_inversion.LabelInverter(config, teacher, self.seed_of, device)
        self.pool = ImagePool(config.n, teacher.description.image_shape, device)
        self.sampler = UniformSampler(self.pool)
        self.student = OnlineStudent(config, teacher, device, floor=model_inversion.FAST_FLOOR)
        self.answers = stored_answers.build(config, self.pool, self.student)
        self.parts = {"student": self.student, "pool": self.pool, "inverter": self.inverter, "objective": self.objective}
        if self.answers:
            self.parts["answers"] = self.answers

    def round(self, index: int):
        """Batches into the pool, then the student's steps."""
        rng = self.rng("round", index)
        trains = index >= self.config.warmup
        self.inverter.begin_round(index)
        for _ in range(self.config.batches_of(index)):
            targets = label_inversion.balanced_targets(self.config.batch, self.teacher.description.num_classes, rng)
            self.pool.add(self.inverter.invert(self.loss_of(targets, trains, rng), targets, rng), index)
            self.objective.remember()
        return model_inversion.train_student(self.student, self.sampler, index, rng, self.answers) if trains else None

    def loss_of(self, targets, trains: bool, rng):
        """The loss of images (B,C,H,W) for these labels (B), as a function."""

        def loss(images):
            with self.student.frozen() as student:
                return self.objective(views.view(self.config.view, images, rng), targets, student if trains else None)

        return loss

    def batch(self, index: int) -> Batch:
        """The next images of the pool."""
        return self.pool.batch(self.rows(index))

    def networks(self) -> dict:
        """The student after the last round. Not the generator: it takes what a noisy layer gives, no noise."""
        return {"student": self.student.net}
