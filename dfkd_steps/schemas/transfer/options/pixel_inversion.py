"""The config fields of gradient descent on the pixels of a batch (``engines.pixel_inversion``)."""

from dataclasses import dataclass

from ...fields import opt
from . import objective


def beta(number: int, default: float):
    """The config field ``beta1`` or ``beta2``, with a method's own default."""
    return opt(default, f"beta{number} of Adam", lo=0, hi=0.9999)


@dataclass
class PixelOptions:
    """The fields that DeepInversion and its adaptive form share; those of ``beta`` have defaults of their own."""

    onehot: float = objective.weight("onehot", 1.0)
    bn: float = objective.weight("bn", 10.0)
    bn_first: float = opt(1.0, "bn: weight of the first BatchNorm layer, as a multiple of that of each other one", lo=0)
    # Published: 2.5e-5 of the norm over a batch of 256 (16 times that by image), images in units of a std of 0.2, and with it
    # Adam steps of 0.05 in these units.
    tv: float = objective.weight("tv", 2e-3)
    l2: float = objective.weight("l2", 0.0)
    coarse: int = opt(0, "Adam steps per batch of images seen at half their height and width, before `steps`", lo=0)
    steps: int = opt(2000, "Adam steps per batch of images", lo=1)
    lr: float = opt(
        0.01, "peak learning rate (Adam) of pixels in [0,1] (0.05 in units of a standard deviation of 0.2)", above=0, hi=100
    )
    lr_warmup: int = opt(0, "steps over which lr rises to its peak, those of `coarse` and of `steps` alike", lo=0)
    schedule: str = opt("constant", "learning rate schedule over the steps of a batch", choices=("constant", "cosine"))

    def fault_of_steps(self) -> str | None:
        """Why its steps leave no learning rate to fall, or None."""
        for name in ("coarse", "steps"):
            if 0 < getattr(self, name) <= self.lr_warmup:
                return f"lr_warmup: {self.lr_warmup} is not less than {name}: {getattr(self, name)}; lower it or raise {name}"
        return None
