"""The configs of balance, a dataclass for each mode."""

from dataclasses import dataclass

from .fields import opt


@dataclass
class Balance:
    mode: str = opt("none", "none | equal | confidence | weight")
    seed: int = opt(0, "seed of every random choice", lo=0)


@dataclass
class NoBalance(Balance):
    """The transfer set, unchanged."""


@dataclass
class EqualBalance(Balance):
    """The same number of samples for each of the teacher's classes, by the teacher's argmax (arXiv 2011.09113)."""

    mode: str = opt("equal", "none | equal | confidence | weight")
    per_class: int = opt(
        0, "samples per class (0 = as many as possible: N/K with resampling, else the size of the rarest class)", lo=0
    )
    surplus: str = opt("random", "which samples to keep of a class with too many", choices=("random", "confident"))
    deficit: str = opt(
        "resample",
        "for a class with too few samples: resample with augmentation, or leave it short",
        choices=("resample", "short"),
    )
    rounds: int = opt(
        20, "rounds of resampling with augmentation, before the rest is filled with unaugmented copies", lo=1, hi=1000
    )
    push_steps: int = opt(
        50, "targeted gradient steps for a class that is never predicted (0 = report it as uncovered)", lo=0, hi=10000
    )
    push_lr: float = opt(0.02, "step size of the targeted push, in units of the image range [0,1]", above=0, hi=1)


@dataclass
class ConfidenceBalance(Balance):
    """Only samples whose largest teacher probability reaches the threshold."""

    mode: str = opt("confidence", "none | equal | confidence | weight")
    threshold: float = opt(0.9, "lowest maximum probability of a sample to keep", lo=0, hi=1)


@dataclass
class WeightBalance(Balance):
    """All samples, weighted inversely to the size of their class; a student uses these weights with sampling: given."""

    mode: str = opt("weight", "none | equal | confidence | weight")
