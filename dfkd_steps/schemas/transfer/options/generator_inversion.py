"""The config fields of the meta-learnt inverter (``engines.generator_inversion``)."""

from dataclasses import dataclass

from ...fields import opt


@dataclass
class MetaInverterOptions:
    """The fields of the meta-learnt inverter."""

    steps: int = opt(5, "steps on generator and latent vectors for a batch", lo=1)
    lr_g: float = opt(3e-3, "Adam step of the generator for a batch (5e-3 for 2 steps, 3e-3 for 5, 2e-3 for 10)", above=0, hi=10)
    lr_z: float = opt(0.01, "Adam step of the latent vectors (0.015, 0.01, 0.01)", above=0, hi=10)
    latent: int = opt(256, "length of the latent vector", lo=1, hi=65536)
    width: int = opt(128, "channels of the generator", lo=2, hi=65536)
    reset: float = opt(
        0.6, "share of the rounds with a student after which the generator's first layers start anew (0 = never)", lo=0, hi=1
    )
    ema: float = opt(0.9, "share of the past in the BatchNorm statistics that are matched (0 = this batch alone)", lo=0, hi=0.999)
    exchange: float = opt(
        0.0, "the student's images are made anew by the generator; in so many of its steps they exchange channels in pairs "
        "(SpaceshipNet: 0.7; 0 = stored images)", lo=0, hi=1,
    )  # fmt: skip
