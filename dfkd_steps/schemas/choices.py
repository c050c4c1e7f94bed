"""Names and texts that fields of several configs have in common. What a name means is written where torch is imported:
tests compare.
"""

from . import student_losses
from .fields import opt

ARCH = "architecture: a built-in one, torchvision.NAME, timm.NAME"
OPTIMIZERS = ("sgd", "adam", "adamw", "soap")  # training.loop.optimizer
PRECISION = ("fp32", "bf16")
IMAGE_TYPES = ("uint8", "float16", "float32")
VIEWS = (  # training.views.VIEWS
    "none", "shift", "flip-crop", "roll", "roll-flip", "jitter", "resized-crop", "sre2l", "mild", "zskd", "strong", "shapes",
)  # fmt: skip
MIXES = ("none", "mixup", "cutmix")  # training.views.MIXES
REPEATABLE = ("none", "shift", "flip-crop", "resized-crop")  # the views that a few numbers per image describe

LOSS = (
    "kd = tau^2 KL at temperature tau; kd-mean = kd divided by the number of classes; l1 = mean absolute difference of logits; or"
    " factory.MODULE.FUNCTION"
)
LOSS_LIMITS = {"choices": student_losses.Losses(), "code": student_losses.code_of, "external": "network"}


def precision_field():
    """The config field ``precision``."""
    return opt("fp32", "bf16 = autocast, on devices that support it natively", choices=PRECISION)


def snapshots_field():
    """The config field ``snapshots``."""
    return opt(
        0, "copies of the student saved at 1/2, 1/4, ... of its training; `evaluate` measures each (0 = none)", lo=0, hi=16
    )
