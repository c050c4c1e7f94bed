"""The config of the method ADI (``methods.adi``)."""

from dataclasses import dataclass

from .options import model_inversion, objective, pixel_inversion


@dataclass
class ADIConfig(model_inversion.InversionOptions, pixel_inversion.PixelOptions):
    """DeepInversion whose images also make the student disagree with the teacher; the student is trained between the batches."""

    n: int = model_inversion.pool_samples(51200)
    jsd: float = objective.weight("jsd", 1.0)
