"""The config fields of a student that is trained inside a method (``engines.online_student``)."""

from dataclasses import dataclass

from ....models import names
from ...choices import ARCH, LOSS, LOSS_LIMITS, MIXES, OPTIMIZERS, VIEWS, snapshots_field
from ...fields import opt

FIELDS = {
    "loss_s": {"doc": f"loss of the student: {LOSS}", **LOSS_LIMITS},
    "tau": {"doc": "temperature of the student's loss", "lo": 0.01, "hi": 1000},
    "attention_s": {"doc": "weight of attention transfer (feature maps of equal size) in the student's loss (0 = off)", "lo": 0},
    "view_s": {"doc": "augmentation of the student's images, redrawn in every step", "choices": VIEWS},
    "optimizer_s": {
        "doc": "sgd = momentum 0.9 without Nesterov, decay on all parameters; soap = Adam in Shampoo's eigenbasis, for few steps",
        "choices": OPTIMIZERS,
    },
    "lr_s": {"doc": "peak learning rate of the student", "above": 0, "hi": 100},
    "weight_decay_s": {
        "doc": "weight decay of the student; except with sgd, only on weights of two or more dimensions",
        "lo": 0,
        "hi": 1,
    },
    "clip_s": {"doc": "maximum gradient norm of the student (0 = no limit)", "lo": 0},
}


def field(name: str, default):
    """A config field of a student, with a method's own default."""
    return opt(default, **FIELDS[name])


@dataclass
class StudentOptions:
    """The fields of a student whose default no method changes."""

    student: str = opt(
        "lenet5-half", f"the online student, {ARCH} or factory.MODULE.FUNCTION", choices=names.Networks, code=names.code_of,
        external="network",
    )  # fmt: skip
    snapshots: int = snapshots_field()
    mix_s: str = opt("none", "the student's views are mixed in pairs, and the teacher is evaluated on the mixture", choices=MIXES)


@dataclass
class SGDOptions(StudentOptions):
    """A student as most methods train it; without the fields whose default differs among those."""

    attention_s: float = field("attention_s", 0.0)
    optimizer_s: str = field("optimizer_s", "sgd")
    clip_s: float = field("clip_s", 0.0)
