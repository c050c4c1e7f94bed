"""Names and texts that fields of several configs have in common. What a name means is written where torch is imported:
tests compare.
"""

from .fields import opt

ARCH = "architecture: one of ours, torchvision.NAME, timm.NAME"
OPTIMIZERS = ("sgd", "adam", "adamw", "soap")  # training.loop.optimizer
PRECISION = ("fp32", "bf16")
IMAGE_TYPES = ("uint8", "float16", "float32")
VIEWS = (  # training.views.VIEWS
    "none", "shift", "flip-crop", "roll", "roll-flip", "resized-crop", "sre2l", "mild", "zskd", "strong", "shapes",
)  # fmt: skip
REPEATABLE = ("none", "shift", "flip-crop")  # the views that three small numbers an image describe


def precision_field():
    """The config field ``precision``."""
    return opt("fp32", "bf16 = autocast, where the device computes in it", choices=PRECISION)
