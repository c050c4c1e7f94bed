"""The config of the method ADI (``methods.adi``)."""

from dataclasses import dataclass

from .options import model_inversion, objective, pixel_inversion


@dataclass
class ADIConfig(model_inversion.InversionOptions, pixel_inversion.PixelOptions):
    """DeepInversion whose images also make the student disagree with the teacher; the student is trained between the batches."""

    n: int = model_inversion.pool_samples(51200)
    jsd: float = objective.weight("jsd", 1.0)
    # Those of CMI's comparison.
    beta1: float = pixel_inversion.beta(1, 0.5)
    beta2: float = pixel_inversion.beta(2, 0.99)

    def check(self):
        return super().check() or self.fault_of_steps()
