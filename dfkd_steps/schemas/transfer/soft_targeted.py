"""The config of the method SoftTargeted (``methods.soft_targeted``)."""

from dataclasses import dataclass

from ..fields import opt
from .options import soft_targets


@dataclass
class SoftTargetedConfig(soft_targets.SoftTargetOptions):
    """Images whose softened teacher output matches that of features drawn from a Gaussian, and which activate the features."""

    sigma: float = opt(
        1.5, "standard deviation of the features before their activation (times the scale of a BatchNorm there)", above=0, hi=100
    )
    activation: float = opt(0.05, "weight of the activation loss (0.05 for LeNet-5, 0.1 for AlexNet)", lo=0)
