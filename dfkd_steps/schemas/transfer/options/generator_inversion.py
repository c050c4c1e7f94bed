"""The config fields of the meta-learnt inverter (``engines.generator_inversion``)."""

from dataclasses import dataclass

from ...fields import opt


@dataclass
class MetaInverterOptions:
    """The fields of the meta-learnt inverter."""

    steps: int = opt(5, "steps on the generator and the latent vectors per batch", lo=1)
    lr_g: float = opt(3e-3, "learning rate of the generator (Adam; 5e-3 for 2 steps, 3e-3 for 5, 2e-3 for 10)", above=0, hi=10)
    lr_z: float = opt(0.01, "learning rate of the latent vectors (Adam; 0.015 for 2 steps, 0.01 for 5 or 10)", above=0, hi=10)
    latent: int = opt(256, "length of the latent vector", lo=1, hi=65536)
    width: int = opt(128, "channels of the generator", lo=2, hi=65536)
    reset: float = opt(
        0.6,
        "share of the rounds with a student after which the generator's first layers are reinitialised (0 = never)",
        lo=0,
        hi=1,
    )
    ema: float = opt(
        0.9, "decay of the moving average of BatchNorm statistics that is matched (0 = this batch only)", lo=0, hi=0.999
    )
    exchange: float = opt(
        0.0, "if above 0, the generator regenerates the student's images, which in this share of the steps exchange channels in "
        "pairs (SpaceshipNet: 0.7; 0 = the stored images are used)", lo=0, hi=1,
    )  # fmt: skip
