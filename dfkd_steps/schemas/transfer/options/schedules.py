"""The names of schedules of learning rates (``engines.schedules``), and what they mean."""

NAMES = ("constant", "cycles", "cosine", "drops-20-40", "drops-33-67", "drops-40-80")
MEANING = (
    "cosine = half of one, down to 0; drops-20-40 = a tenth from 20 % on and a hundredth from 40 % on; "
    "cycles = twice up over a fifth, then half a cosine down"
)
