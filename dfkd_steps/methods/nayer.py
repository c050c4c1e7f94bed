"""NAYER: noisy layer data generation (Tran et al., CVPR 2024, arXiv 2310.00258)."""

from ..schemas.transfer.nayer import NAYERConfig
from .engines import label_inversion
from .engines.model_inversion import FAST_FLOOR, ModelInversion


class NAYER(ModelInversion):
    """An inverter that starts from labels, a pool whose oldest images are replaced, a student that draws from it uniformly."""

    Config = NAYERConfig
    floor = FAST_FLOOR

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.drawn = ("label embeddings",) if config.embedding_file else ()
        self.inverter = label_inversion.LabelInverter(config, teacher, self.seed_of, device)
        self.add_parts(inverter=self.inverter)

    def round(self, index: int):
        """Batches into the pool, then the student's steps."""
        rng = self.rng("round", index)
        self.inverter.begin_round(index)
        for _ in range(self.config.batches_of(index)):
            targets = label_inversion.balanced_targets(self.config.batch, self.teacher.description.num_classes, rng)
            self.pool.add(self.inverter.invert(self.loss_of(targets, index, rng), targets, rng), index)
            self.objective.remember()
        return self.train_student(index, rng)

    # The generator is not kept: it takes what a noisy layer gives, no noise.
