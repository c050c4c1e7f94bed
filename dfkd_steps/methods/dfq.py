"""DFQ: data-free network quantization with adversarial knowledge distillation (Choi et al., 2020, arXiv 2005.04136)."""

from ..schemas.transfer.dfq import DFQConfig
from .engines import alternating


class DFQ(alternating.AlternatingTraining):
    """One generator step, ten student steps on new images."""

    Config = DFQConfig
