"""dataset.h5: uint8 images of a task, its labels, its class names, its mean and std.

/x_train /x_test (N,C,H,W) uint8    /y_train /y_test (N) int64, contiguous; for segmentation label maps (N,H,W) uint8, 255 = void
attributes: kind, key, provenance, classes (JSON), mean, std, keep (JSON: the teacher's classes that count; [] = all), and where
there are canaries (training images with a wrong label, of which some are left out) canaries (JSON, lists with an entry each):
row in the whole training set, position in x_train, label, out (left out: then the position is where it would be)

A card says what a task is without any image: N is 0, and mean and std may be empty (the teacher's own count).
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..models import tasks
from ..runtime import disk
from ..runtime.errors import UserError, one_line, reading, remedy_for, require_file
from . import hdf5

KIND = "dataset"
FIELDS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Dataset:
    """A data set opened for reading. ``arrays``: FIELDS by name, over a memory map of the file."""

    path: Path
    key: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: dict[str, int]
    arrays: dict[str, np.ndarray] = field(repr=False, compare=False)
    keep: tuple[int, ...] = ()
    canaries: dict | None = None

    @property
    def task(self) -> str:
        """What its labels are for: 'classification', or 'segmentation' where they are maps."""
        return tasks.SEGMENTATION if self.arrays["y_train"].ndim == 3 else tasks.CLASSIFICATION

    @property
    def has_images(self) -> bool:
        """False for a card, which describes a task without its images."""
        return any(self.sizes.values())

    @property
    def has_names(self) -> bool:
        """Do its classes have names, or numbers only?"""
        return self.classes != tuple(map(str, self.keep or range(len(self.classes))))

    def require_images(self):
        """Raise UserError for a card."""
        if not self.has_images:
            raise UserError(f"{self.path}: is a card and has no images, which are needed here; use a data set with images")

    def read(self, split: str, rows=slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Copies of images (N,C,H,W) uint8 and labels (N) int64, or maps (N,H,W) uint8, of 'train' or 'test'.

        ``rows``: a slice, or integers.

        Raises UserError for a card.
        """
        self.require_images()
        return hdf5.copied(self.arrays[f"x_{split}"], rows), hdf5.copied(self.arrays[f"y_{split}"], rows)


def write(
    path, key: str, provenance: dict, classes, arrays: dict[str, np.ndarray], keep=(), card: dict | None = None, canaries=None
):
    """Write x_train, y_train, x_test, y_test, and mean and std per channel: of the training images in [0,1], or a card's.

    ``card``: mean and std of a data set without images. ``keep``, ``canaries``: as at the head of this file.
    """
    mean, std = (card["mean"], card["std"]) if card else statistics(arrays["x_train"])
    rows = hdf5.Rows(path, {name: (arrays[name].shape, arrays[name].dtype) for name in sorted(arrays)})
    for name, values in arrays.items():
        rows.write(name, 0, values)
    attributes = {"kind": KIND, "key": key, "provenance": json.dumps(provenance, sort_keys=True)}
    attributes |= {"classes": json.dumps(list(classes)), "keep": json.dumps(list(keep))}
    attributes |= {"canaries": json.dumps(canaries)} if canaries else {}
    rows.finish(attributes | {"mean": np.asarray(mean, float), "std": np.asarray(std, float)}, {})


def statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel of images (N,C,H,W) uint8, in units of [0,1]."""
    # By rows of a histogram and not by a float copy: exact, and no memory beyond the images.
    counts = np.zeros((images.shape[1], 256), np.int64)
    for piece in disk.pieces(images):  # because bincount widens what it counts
        for channel, pixels in enumerate(piece.swapaxes(0, 1)):
            counts[channel] += np.bincount(pixels.ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    return mean, np.sqrt(np.maximum(counts @ values**2 / counts.sum(1) - mean**2, 1e-12))


def open_dataset(path) -> Dataset:
    """Open dataset.h5; raises UserError where it is missing, damaged or another kind of file."""
    path = Path(path)
    require_file(path)
    instead = remedy_for(path, "dataset.h5")
    with reading(path, remedy=instead):
        attributes, places, problems = hdf5.structure(path, _look)
        if attributes["kind"] != KIND:
            kind = one_line(repr(attributes["kind"]))
            raise UserError(f"{path}: is not a data set of dfkd (attribute kind is {kind}); {instead}")
        arrays = {} if problems else hdf5.mapped(path, places)
        if problems := problems or _values(attributes, arrays):
            raise UserError("\n".join(f"{path}: {problem}; delete it and make it again" for problem in problems))
        sizes = {split: len(arrays[f"x_{split}"]) for split in ("train", "test")}
        mean, std = (tuple(map(float, attributes[name])) for name in ("mean", "std"))
        if attributes["key"] is None:
            raise ValueError("attribute key is missing")
        keep = attributes["keep"]
        if keep and (len(keep) != len(attributes["classes"]) or not all(isinstance(label, int) and label >= 0 for label in keep)):
            raise ValueError("attribute keep does not give a class of the teacher for each class")
        canaries = _canaries(attributes["canaries"], sizes["train"], len(attributes["classes"]))
        shape = arrays["x_train"].shape[1:]
        return Dataset(path, attributes["key"], attributes["classes"], shape, mean, std, sizes, arrays, keep, canaries)


def _look(file):
    """Attributes by name, the places of the fields, and what is wrong with them."""
    attributes = {name: hdf5.text(file, name) for name in ("kind", "key")}
    if attributes["kind"] != KIND:
        return attributes, {}, []
    attributes["classes"] = tuple(map(str, json.loads(hdf5.text(file, "classes"))))
    attributes["keep"] = tuple(json.loads(hdf5.text(file, "keep") or "[]"))
    attributes["canaries"] = hdf5.text(file, "canaries")
    attributes |= {name: hdf5.numbers(file, name) for name in ("mean", "std")}
    problems = hdf5.faults(file, FIELDS) or _shapes(file, len(attributes["classes"]))
    return attributes, {} if problems else hdf5.places(file, FIELDS), problems


def _canaries(text: str | None, images: int, classes: int) -> dict | None:
    """The canaries of an attribute, or None where there are none; raises ValueError where they are not those of such a set."""
    if text is None:
        return None
    canaries = json.loads(text)
    lists = [canaries["positions"], canaries["labels"], canaries["out"]]
    if len({len(values) for values in lists}) != 1 or not all(
        isinstance(at, int) and isinstance(label, int) and isinstance(out, bool) and 0 <= label < classes
        and 0 <= at < images + len(lists[0]) and (out or at < images)
        for at, label, out in zip(*lists)
    ):  # fmt: skip
        raise ValueError("attribute canaries refers to images or labels that do not exist")
    return canaries


def _shapes(file, classes: int) -> list[str]:
    problems = []
    shape = file["x_train"].shape[1:]
    for split in ("train", "test"):
        images, labels = file[f"x_{split}"], file[f"y_{split}"]
        if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[1:] != shape or 0 in shape:
            problems.append(f"x_{split} is {images.dtype} of shape {images.shape}, expected uint8 (N,C,H,W), one for both splits")
        elif file["y_train"].ndim == 3:
            if labels.dtype != np.uint8 or labels.shape != (len(images), *images.shape[2:]):
                problems.append(f"y_{split} is {labels.dtype} of shape {labels.shape}, expected uint8 maps of the images' size")
        elif labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            problems.append(f"y_{split} is {labels.dtype} of shape {labels.shape}, expected int64 ({len(images)},)")
    channels = shape[0] if shape else 0
    for name in ("mean", "std"):
        allowed = ((channels,), (0,)) if not len(file["x_train"]) else ((channels,),)
        if np.shape(values := hdf5.numbers(file, name)) not in allowed:
            problems.append(f"attribute {name} has shape {np.shape(values)}, expected one value for each of {channels} channels")
    if classes < 2:
        problems.append(f"attribute classes names {classes} classes, expected two or more")
    return problems


def _labels_fit(labels: np.ndarray, classes: int) -> bool:
    if labels.ndim == 1:
        return hdf5.labels_fit(labels, classes)
    return all(bool(((piece < classes) | (piece == tasks.VOID)).all()) for piece in disk.pieces(labels))


def _values(attributes, arrays) -> list[str]:
    classes, mean, std = len(attributes["classes"]), attributes["mean"], attributes["std"]
    problems = [
        f"y_{split} has labels outside 0 to {classes - 1}"
        for split in ("train", "test")
        if not _labels_fit(arrays[f"y_{split}"], classes)
    ]
    if not all(name.isprintable() for name in attributes["classes"]):  # they stand in logs, tables and networks
        problems.append("attribute classes has a name that is not printable text")
    if not np.isfinite([*mean, *std]).all() or min(std, default=1) <= 0:
        problems.append(f"mean {mean} and std {std} are not a normalisation")
    return problems
