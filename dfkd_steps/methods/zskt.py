"""ZSKT: zero-shot knowledge transfer via adversarial belief matching (Micaelli & Storkey, NeurIPS 2019, arXiv 1905.09768)."""

from ..schemas.transfer.zskt import ZSKTConfig
from .engines import alternating


class ZSKT(alternating.AlternatingTraining):
    """One generator step, ten student steps on the same images."""

    Config = ZSKTConfig
