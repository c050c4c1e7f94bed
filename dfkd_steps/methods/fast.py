"""Fast: up to 100x faster data-free knowledge distillation (Fang et al., AAAI 2022, arXiv 2112.06253)."""

from ..schemas.transfer.fast import FastConfig
from .engines import channel_exchange
from .engines.generator_inversion import MetaInverter, new_generator
from .engines.model_inversion import FAST_FLOOR, ModelInversion


class Fast(ModelInversion):
    """A meta-learnt inverter, a pool whose oldest images are replaced, and a student that draws from it uniformly."""

    Config = FastConfig
    floor = FAST_FLOOR

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.inverter = MetaInverter(config, new_generator(config, teacher, self.seed_of("generator"), device))
        self.exchanged = channel_exchange.build(config, self.pool, self.inverter)
        self.add_parts(inverter=self.inverter, exchanged=self.exchanged)

    def round(self, index: int):
        """A batch into the pool, then the student's steps."""
        rng = self.rng("round", index)
        targets = self.random_targets(rng)
        images = self.inverter.invert(self.loss_of(targets, index, rng), index, rng)
        places = self.pool.places(len(images))
        self.pool.put(places, images, index)
        if self.exchanged:
            self.exchanged.put(places, self.inverter.latent)
        self.objective.remember()
        return self.train_student(index, rng)

    def networks(self) -> dict:
        """The student after the last round, and the generator as it is between two batches."""
        return {"student": self.student.net, "generator": self.inverter.generator}
