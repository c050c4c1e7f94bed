"""The dataclass of each kind of each group but ``transfer``, whose configs are in ``schemas.transfer``, one file per method."""

from .balance import ConfidenceBalance, EqualBalance, NoBalance, WeightBalance
from .dataset import Auto, Card, DrawnShapes, Idx, Images, Masks, Mnist5k, Npz, Torchvision
from .student import Student
from .teacher import ImportTeacher, LibraryTeacher, TrainTeacher

KINDS = {
    "dataset": {
        "mnist-5k": Mnist5k,
        "auto": Auto,
        "torchvision": Torchvision,
        "npz": Npz,
        "idx": Idx,
        "images": Images,
        "masks": Masks,
        "drawn-shapes": DrawnShapes,
        "card": Card,
    },
    "teacher": {"train": TrainTeacher, "import": ImportTeacher, "library": LibraryTeacher},
    "balance": {"none": NoBalance, "equal": EqualBalance, "confidence": ConfidenceBalance, "weight": WeightBalance},
    "student": {"": Student},
}
