"""The configs of teachers, a dataclass for each kind."""

from dataclasses import dataclass

from ..models import names
from .choices import ARCH
from .fields import opt, required
from .training import Training


@dataclass
class TrainTeacher(Training):
    """A teacher that dfkd trains on the training images."""

    kind: str = opt("train", "train | import | library")
    label_smoothing: float = opt(0.0, "share of the target spread over all classes", lo=0, hi=0.9)
    crop: int = opt(0, "random shift by up to this many pixels (zero padding)", lo=0, hi=64)
    flip: bool = opt(False, "random horizontal flip")
    cutout: int = opt(0, "side of a random square that is blanked, pixels (0 = none)", lo=0, hi=512)
    zoom: float = opt(0.0, "segmentation: a random window is enlarged up to 1 + zoom times (0 = never)", lo=0, hi=10)
    start: str = opt(
        "", "file of initial weights for the network or a part of it, such as an encoder ('' = random)", external="file",
        code=lambda value: "models.start",
    )  # fmt: skip


@dataclass
class Import:
    """A given network, nothing trained. Its inputs are normalised with mean and std; where these are empty, with the card's,
    the library's own, or those of the data set's images, the first that there is.
    """

    kind: str = opt("import", "train | import | library", code=lambda kind: "models.pretrained")
    mean: list[float] = opt([], "per channel, for images in [0,1]", lo=0, hi=1)
    std: list[float] = opt([], "per channel, for images in [0,1]", above=0, hi=10)

    def check(self):
        if len(self.mean) != len(self.std):
            return f"mean has {len(self.mean)} values and std {len(self.std)}; give one of each per channel"
        return None


@dataclass
class ImportTeacher(Import):
    """A checkpoint (.pth, .pt or .safetensors) for an architecture or for your own factory; or an ONNX file, which needs
    neither.
    """

    checkpoint: str = required("file of the weights, or an .onnx file", external="file", code=names.code_of_checkpoint)
    arch: str = opt("", f"{ARCH} ('' = factory or ONNX)", choices=names.NetworksOrNone, code=names.code_of, external="network")
    factory: str = opt(
        "", "package.module:function that is called with num_classes and returns the network ('' = use arch)", external="factory"
    )
    sha256: str = opt("", "sha256 of the checkpoint, checked if given")
    rename: list[str] = opt(
        [], "OLD=NEW for parts, between dots, of the names of its weights, if the network names them otherwise ([fc=linear])"
    )

    def check(self):
        for entry in self.rename:
            if entry.count("=") != 1 or entry.startswith("="):
                return f"rename: {entry!r} is not OLD=NEW; write it like fc=linear"
        if names.is_onnx(self.checkpoint):
            if self.arch or self.factory:
                return "an ONNX file defines the network itself; remove arch and factory"
            if self.rename:
                return "an ONNX file defines the network itself; remove rename"
        elif bool(self.arch) == bool(self.factory):
            return "give exactly one of arch and factory"
        return super().check()


@dataclass
class LibraryTeacher(Import):
    """A network from torchvision or timm by name, with that library's weights."""

    kind: str = opt("library", "train | import | library", code=lambda kind: "models.pretrained")
    library: str = opt("torchvision", "library of the model", choices=("torchvision", "timm"))
    name: str = required("the model's name in that library")
    weights: str = opt("DEFAULT", "torchvision: a name from its weights enum; timm: DEFAULT; '' = random weights")
