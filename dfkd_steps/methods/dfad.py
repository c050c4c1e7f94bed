"""DFAD: data-free adversarial distillation (Fang et al., 2019, arXiv 1912.11006)."""

from ..schemas.transfer.dfad import DFADConfig
from .engines import alternating


class DFAD(alternating.AlternatingTraining):
    """One generator step, five student steps on new images."""

    Config = DFADConfig
