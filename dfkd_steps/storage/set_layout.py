"""The layout of a transfer set's file, and what makes a file one (``transfer_set`` has the list of its fields)."""

import json
from dataclasses import dataclass

import h5py
import numpy as np

from ..models import tasks
from ..runtime.errors import one_line
from ..schemas.choices import IMAGE_TYPES
from . import hdf5

SCHEMA_VERSION = 2
KIND = "transfer_set"
NETWORKS, MAX_NETWORKS = "networks", 1000
FIELDS = ("images", "logits", "labels", "targets", "weights", "round", "source")


@dataclass(frozen=True)
class Layout:
    """Shapes of a set: image (C,H,W), K classes, element type of images, and which optional fields it has."""

    image_shape: tuple[int, int, int]
    num_classes: int
    image_type: str = "uint8"
    targets: bool = True
    weights: bool = False
    task: str = tasks.CLASSIFICATION
    source: bool = False

    @classmethod
    def of(cls, fields, classes: int) -> "Layout":
        """That of fields by name, arrays of a set or of its file, with so many classes."""
        images, task = fields["images"], tasks.CLASSIFICATION if "logits" in fields else tasks.SEGMENTATION
        there = {name: name in fields for name in ("targets", "weights", "source")}
        return cls(images.shape[1:], classes, str(images.dtype), task=task, **there)

    @property
    def dense(self) -> bool:
        """Is a label a map?"""
        return self.task == tasks.SEGMENTATION

    def fields(self):
        """Name, shape of one sample, and element type of each field."""
        yield "images", tuple(self.image_shape), self.image_type
        if self.dense:
            yield "labels", tuple(self.image_shape[1:]), "uint8"
        else:
            yield "logits", (self.num_classes,), "float32"
            yield "labels", (), "int64"
        if self.targets:
            yield "targets", (self.num_classes,), "float32"
        if self.weights:
            yield "weights", (), "float32"
        yield "round", (), "int32"
        if self.source:
            yield "source", (), "int64"


def look(file):
    """Texts by name, the places of the fields, and what is wrong with the file."""
    if problems := _structure(file):
        return {}, {}, problems
    texts = {name: hdf5.text(file, name) for name in ("key", "provenance", "metadata")}
    texts["classes"] = _classes(file)
    return texts, hdf5.places(file, [*_present(file), *_networks(file)]), []


def _present(file):
    optional = ("targets", "weights", "source", *(["logits"] if _is_dense(file) else []))
    return [name for name in FIELDS if name in list(file) or name not in optional]


def _is_dense(file) -> bool:
    """Does a file say that it is for segmentation? Only then it need not have logits."""
    return "num_classes" in file.attrs


def _classes(file) -> int:
    return int(hdf5.numbers(file, "num_classes")) if _is_dense(file) else file["logits"].shape[1]


def _networks(file):
    link = file.get(NETWORKS, getlink=True)
    if link is not None and not (isinstance(link, h5py.HardLink) and isinstance(file[NETWORKS], h5py.Group)):
        raise ValueError(f"{NETWORKS} is not a group of this file")
    if link and len(file[NETWORKS]) > MAX_NETWORKS:
        raise ValueError(f"{len(file[NETWORKS])} networks, more than {MAX_NETWORKS}")
    return [f"{NETWORKS}/{name}" for name in file[NETWORKS]] if link else []


def _structure(file) -> list[str]:
    kind, version = hdf5.text(file, "kind"), hdf5.numbers(file, "schema_version")
    if kind != KIND:
        return [f"is not a transfer set (attribute kind is {one_line(repr(kind))}, expected {KIND!r})"]
    if not np.array_equal(version, SCHEMA_VERSION):
        return [f"has schema version {one_line(version)}, but this program reads {SCHEMA_VERSION}"]
    problems = [] if hdf5.text(file, "key") else ["attribute key is missing"]
    problems += [f"attribute {name} is not a JSON mapping" for name in ("provenance", "metadata") if not _is_mapping(file, name)]
    problems += hdf5.faults(file, [*_present(file), *(networks := _networks(file))])
    problems = problems or [
        f"field {name} is {file[name].dtype} of shape {file[name].shape}, expected the bytes of a network"
        for name in networks
        if file[name].dtype != np.uint8 or file[name].ndim != 1
    ]
    return problems or _shapes(file)


def _is_mapping(file, name) -> bool:
    try:
        return isinstance(json.loads(hdf5.text(file, name) or ""), dict)
    except (ValueError, RecursionError):
        return False


def _shapes(file) -> list[str]:
    images = file["images"]
    if images.ndim != 4 or str(images.dtype) not in IMAGE_TYPES:
        return [f"images are {images.dtype} of shape {images.shape}, expected uint8 or float (N,C,H,W)"]
    if problem := _fault_of_classes(file):
        return [problem]
    expected = {name: ((len(images), *shape), kind) for name, shape, kind in Layout.of(file, _classes(file)).fields()}
    return [
        f"{name} is {file[name].dtype} of shape {file[name].shape}, expected {kind} {shape}"
        for name, (shape, kind) in expected.items()
        if file[name].shape != shape or str(file[name].dtype) != kind
    ]


def _fault_of_classes(file) -> str | None:
    """Why the number of classes cannot be told, or None."""
    images = file["images"]
    if _is_dense(file):
        number = hdf5.numbers(file, "num_classes")
        sound = number is not None and number.shape == () and number.dtype.kind in "iu" and 0 < number <= tasks.MOST_CLASSES
        if not sound or "logits" in file or 0 in images.shape[1:]:
            return f"num_classes is {one_line(repr(number))}, images have shape {images.shape}: not a set for segmentation"
        return None
    logits = file["logits"]
    if logits.ndim != 2:
        return f"logits have shape {logits.shape}, expected (N,K)"
    if 0 in (*images.shape[1:], logits.shape[1]):
        return f"images have shape {images.shape} and logits {logits.shape}; only N may be 0"
    return None
