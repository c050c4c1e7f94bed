"""Adaptive DeepInversion (Yin et al., CVPR 2020, arXiv 1912.08795, sec. 3.3)."""

from ..schemas.transfer.adi import ADIConfig
from .engines import objective, pixel_inversion
from .engines.model_inversion import ModelInversion


class ADI(ModelInversion):
    """Pixel inversion, a pool whose oldest images are replaced, and a student that draws from it uniformly."""

    Config = ADIConfig

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        pixel_inversion.require_coarse(config, teacher)
        self.betas = (config.beta1, config.beta2)

    def round(self, index: int):
        """A batch of pixels for random labels into the pool, then the student's steps."""
        config = self.config
        rng = self.rng("round", index)
        targets = self.random_targets(rng)

        def loss_of(view):
            return objective.total(self.objective.terms(self.forward(view, targets, index)))

        self.pool.add(pixel_inversion.invert(config, self.teacher, config.batch, loss_of, self.betas, rng), index)
        return self.train_student(index, rng)
