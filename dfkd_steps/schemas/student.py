"""The config of a student."""

from dataclasses import dataclass

from .choices import LOSS, LOSS_LIMITS, MIXES, OPTIMIZERS, REPEATABLE, snapshots_field
from .fields import opt
from .training import OPTIMIZER, Training


@dataclass
class Student(Training):
    """Distillation from the teacher over the transfer set; the last epoch is the result."""

    epochs: int = opt(
        20, "passes over the set (0 with init: transfer = the student that was trained with the set, unchanged)", lo=0
    )
    optimizer: str = opt("adam", OPTIMIZER, choices=OPTIMIZERS)
    lr: float = opt(1e-3, "peak learning rate", above=0, hi=100)
    loss: str = opt("kd", LOSS, **LOSS_LIMITS)
    tau: float = opt(20.0, "temperature of the loss", lo=0.01, hi=1000)
    augment: str = opt(
        "strong",
        "view of each image that teacher and student both receive",
        choices=("none", "shift", "flip-crop", "resized-crop", "mild", "zskd", "strong", "shapes"),
    )
    views_kept: int = opt(
        0,
        "views of each sample to store with the teacher's logits: new ones until there are this many, then these in turn"
        " (FKD; 0 = a new view in every step)",
        lo=0,
        hi=256,
    )
    outputs: str = opt(
        "kept",
        "of a teacher that is cut to some of its classes (keep in the data set), those that the student learns: kept; or all,"
        " evaluated anew on each image, and the student is cut in the end",
        choices=("kept", "all"),
    )
    mix: str = opt("none", "views are mixed in pairs, and the teacher is evaluated on the mixture", choices=MIXES)
    init: str = opt(
        "random", "initial weights: random, or those of the student trained with the set", choices=("random", "transfer")
    )
    fresh: bool = opt(False, "new images from the set's generators in every step, instead of the stored ones")
    sampling: str = opt(
        "uniform",
        "given = by the transfer set's weights; priority = images not yet learnt by the student are drawn more often (SSD-KD);"
        " hard = by the student's loss on each stored image, re-evaluated before every epoch",
        choices=("uniform", "given", "priority", "hard"),
    )
    beta: float = opt(0.5, "priority: exponent of the importance weights (0 = none, 1 = full correction)", lo=0, hi=1)
    select: str = opt(
        "last",
        "the last epoch, or the one that agrees best with the teacher on held-out synthetic samples",
        choices=("last", "agreement"),
    )
    holdout: float = opt(
        0.1, "agreement: share of the stored samples that is held out, copies of a sample together", above=0, hi=0.5
    )
    steps_per_epoch: int = opt(0, "steps per epoch (0 = one pass over the set)", lo=0)
    snapshots: int = snapshots_field()

    def check(self):
        if not self.epochs and self.init != "transfer":
            return "epochs is 0 and init is random, so nothing would be learnt; set init: transfer, or epochs to 1 or more"
        if self.fresh and self.sampling != "uniform":
            return f"fresh images cannot be drawn with {self.sampling} sampling; set sampling: uniform, or fresh: false"
        if self.outputs == "all" and self.init == "transfer":
            return "a student that was trained with the set has the kept outputs alone; set outputs: kept, or init: random"
        return self._fault_of_views() if self.views_kept else None

    def _fault_of_views(self):
        kept = [name for name in REPEATABLE if name != "none"]
        if self.augment not in kept:
            return (
                f"views_kept: '{self.augment}' views cannot be stored; set augment to one of {', '.join(kept)}, or views_kept: 0"
            )
        if self.mix != "none":
            return "views_kept: mixed views differ in every step; set mix: none, or views_kept: 0"
        return "views_kept: fresh images are used only once; set fresh: false, or views_kept: 0" if self.fresh else None
