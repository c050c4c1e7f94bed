"""How a learning rate goes down over a whole training, by name: progress in [0,1) -> share of the peak."""

from ...training import loop


def _drops(*places: float):
    return lambda progress: 0.1 ** sum(progress >= place for place in places)


def _cycles(progress: float) -> float:
    """Two cycles: a fifth of each up from 0, then half a cosine down (PSAQ-ViT)."""
    place = 2 * progress % 1
    return place / 0.2 if place < 0.2 else loop.half_cosine(1.0, (place - 0.2) / 0.8)


SCHEDULES = {
    "constant": lambda progress: 1.0,
    "cycles": _cycles,
    "cosine": lambda progress: loop.half_cosine(1.0, progress),
    "drops-20-40": _drops(0.2, 0.4),  # a tenth from 20 % on, a hundredth from 40 % on (DFAD)
    "drops-33-67": _drops(1 / 3, 2 / 3),  # DFAD for segmentation
    "drops-40-80": _drops(0.4, 0.8),  # DAFL
}


def rate(schedule: str, peak: float, progress: float) -> float:
    """The learning rate at ``progress``, the share of the training that is done, in [0,1)."""
    return peak * SCHEDULES[schedule](progress)
