"""The names of schedules of learning rates (``engines.schedules``), and what they mean."""

NAMES = ("constant", "cycles", "cosine", "drops-20-40", "drops-33-67", "drops-40-80")
MEANING = (
    "cosine = half a cosine down to 0; drops-20-40 = a tenth from 20 % of the training on, a hundredth from 40 % on; "
    "cycles = two cycles, each up over a fifth, then half a cosine down"
)
