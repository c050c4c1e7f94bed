"""DAFL: data-free learning of student networks (Chen et al., ICCV 2019, arXiv 1904.01186)."""

from ..schemas.transfer.dafl import DAFLConfig
from .engines import alternating


class DAFL(alternating.AlternatingTraining):
    """One generator step, five student steps on new images."""

    Config = DAFLConfig
