"""transfer_set.h5, schema version 2: write, resume, read (``verify`` reads all of it).

/images      (N,C,H,W)  uint8 by rounding, or float16 / float32 in [0,1]
/logits      (N,K)      float32, the teacher's on the stored image
/labels      (N)        int64, argmax of the logits; for segmentation (N,H,W) uint8, and no logits: whoever wants them asks the
                        teacher again
/targets     (N,K)      float32, the soft target the image was made for; absent where there is none
/weights     (N)        float32, sampling weights with mean 1; absent where sampling is uniform
/round       (N)        int32, the round it was made in
/networks/NAME (bytes)  uint8, a network that was trained with the set (generator, student) as a safetensors file; if any
attributes   schema_version, kind, key, num_classes (for segmentation), provenance (JSON), metadata (JSON: what people are to be
             told of the set)

All of it is contiguous and uncompressed.
"""

import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from ..models import tasks
from ..runtime.errors import UserError, one_line, reading, require_file
from ..schemas.choices import IMAGE_TYPES
from . import hdf5
from .image_format import to_unit

SCHEMA_VERSION = 2
KIND = "transfer_set"
NETWORKS, MAX_NETWORKS = "networks", 1000
FIELDS = ("images", "logits", "labels", "targets", "weights", "round")


@dataclass(frozen=True)
class Layout:
    """Shapes of a set: image (C,H,W), K classes, element type of images, and which optional fields it has."""

    image_shape: tuple[int, int, int]
    num_classes: int
    image_type: str = "uint8"
    targets: bool = True
    weights: bool = False
    task: str = tasks.CLASSIFICATION

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


class Writer:
    """Fills a working file batch by batch, at most ``total`` samples; kill -9 costs one batch.

    A counter beside it (``PATH.done``) says how much is there, under which key and layout, and with which checksums: after
    a crash of the machine the rows may be lost that it counts. A working file of anything else starts over.
    """

    def __init__(self, path, key: str, layout: Layout, total: int, resume=True):
        if not total:
            raise UserError(f"{Path(path).parent}: no sample is left; loosen what selects them (threshold, deficit)")
        self.path, self.key, self.layout, self.total = Path(path), key, layout, total
        self.head = {"key": key, "layout": json.loads(json.dumps(asdict(layout))), "total": total}
        self.fields = {name: ((total, *shape), np.dtype(kind)) for name, shape, kind in layout.fields()}
        self._start(self._counted() if resume else None)
        if self.done and self._stored() != self.checks:
            self._start(None)
        self.counts = np.zeros(layout.num_classes, np.int64)
        for _, labels in self.rows.pieces("labels", self.done):
            self._count(labels)

    def _start(self, counted):
        self.batches, self.done, self.checks = counted or (0, 0, dict.fromkeys(self.fields, 0))
        self.rows = hdf5.Rows(self.path, self.fields, keep=bool(counted))

    def _counted(self):
        """Batches, samples and checksums that the counter beside the working file tells; None where it is not of this work."""
        try:
            counted = json.loads(Path(f"{self.path}.done").read_text())
            return counted["done"] if counted["head"] == self.head and self.path.is_file() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _stored(self) -> dict[str, int]:
        """Checksums of the samples that are there."""
        found = dict.fromkeys(self.fields, 0)
        for name in self.fields:
            for _, values in self.rows.pieces(name, self.done):
                found[name] = zlib.crc32(values.data, found[name])
        return found

    def append(self, **fields: np.ndarray):
        """Store one batch: every field of the layout, same number of rows each; images as ``to_stored`` gives them."""
        rows, part = len(fields["images"]), {}
        for name, shape, kind in self.layout.fields():
            value = np.asarray(fields[name])
            if value.shape != (rows, *shape):
                raise ValueError(f"{name}: shape {value.shape}, expected {(rows, *shape)}")
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise FloatingPointError(f"{name}: not a finite number in batch {self.batches}")
            part[name] = np.ascontiguousarray(value, kind)
        if self.done + rows > self.total:
            raise ValueError(f"{self.done + rows} samples, expected {self.total}")
        for name, value in part.items():
            self.rows.write(name, self.done, value)
            self.checks[name] = zlib.crc32(value, self.checks[name])
        self.batches, self.done = self.batches + 1, self.done + rows
        self._count(part["labels"])
        beside = f"{self.path}.done.next"
        Path(beside).write_text(json.dumps({"head": self.head, "done": [self.batches, self.done, self.checks]}))
        os.replace(beside, f"{self.path}.done")

    def _count(self, labels):
        self.counts += np.bincount(labels.ravel(), minlength=len(self.counts))

    def finish(self, provenance: dict, metadata: dict, networks: dict | None = None):
        """Make the working file a whole transfer set; its bytes do not tell how often the work was interrupted.

        networks: name -> the bytes of its safetensors file.
        """
        if self.done < self.total:
            self.rows = self.rows.first(self.done)
        attributes = {"schema_version": SCHEMA_VERSION, "kind": KIND, "key": self.key}
        attributes |= {"num_classes": self.layout.num_classes} if self.layout.dense else {}
        attributes |= {"provenance": json.dumps(provenance, sort_keys=True), "metadata": json.dumps(metadata, sort_keys=True)}
        self.rows.finish(attributes, {f"{NETWORKS}/{name}": content for name, content in (networks or {}).items()})


class TransferSet:
    """A transfer set on disk, read through a memory map. A context manager; raises UserError for a foreign or broken file.

    As it has a length and items, a ``torch.utils.data.DataLoader`` takes it for a data set.
    """

    def __init__(self, path):
        self.path = Path(path)
        require_file(path)
        with reading(path, "is damaged or no HDF5 file"):
            told, places, problems = hdf5.structure(path, _look)
            if problems:
                raise UserError("\n".join(f"{path}: {problem}; delete it and make it again" for problem in problems))
            self.provenance, self.metadata = (json.loads(told[name]) for name in ("provenance", "metadata"))
            self.key, self._classes, self.fields = told["key"], told["classes"], hdf5.mapped(path, places)
        if not hdf5.labels_fit(self.fields["labels"], self._classes):
            raise UserError(f"{path}: has labels outside 0 to {self._classes - 1}; delete it and make it again")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.fields = {}

    def __len__(self):
        return len(self.fields["images"])

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """One sample: image (C,H,W) float32 in [0,1], and the teacher's logits (K) float32, or map (H,W) uint8."""
        return to_unit(self.fields["images"][row]), np.array(self.fields["logits" if "logits" in self else "labels"][row])

    def __contains__(self, field):
        return field in self.fields

    @property
    def layout(self) -> Layout:
        """Shapes and fields of this set."""
        images, task = self.fields["images"], tasks.CLASSIFICATION if "logits" in self else tasks.SEGMENTATION
        return Layout(images.shape[1:], self._classes, str(images.dtype), "targets" in self, "weights" in self, task)

    def require_fit(self, description):
        """Raise UserError unless the set has the image shape and classes of a network's ``Description``, and finite logits."""
        mine = tuple(self.layout.image_shape), self.layout.num_classes
        wanted = tuple(description.image_shape), description.num_classes
        if mine != wanted:
            raise UserError(
                f"{self.path}: images {mine[0]} with {mine[1]} classes, but the teacher takes "
                f"{wanted[0]} with {wanted[1]}; make the set for this teacher"
            )
        if self.layout.task != description.task:
            raise UserError(
                f"{self.path}: is for {self.layout.task}, the teacher for {description.task}; make it for this teacher"
            )
        for name in (one for one in ("logits", "weights") if one in self):
            if not all(np.isfinite(part[name]).all() for _, part in self.chunks(name)):
                raise UserError(f"{self.path}: {name} has values that are not finite; delete it and make it again")

    def networks(self) -> dict[str, bytes]:
        """The networks kept with the set, by name, as the bytes of safetensors files."""
        return {name.removeprefix(f"{NETWORKS}/"): self.fields[name].tobytes() for name in self.fields if NETWORKS in name}

    def nbytes(self, field: str) -> int:
        """Bytes that all rows of a field take."""
        return self.fields[field].nbytes

    def read(self, field: str, rows=slice(None)) -> np.ndarray:
        """A copy of rows of a field as stored. ``rows``: a slice, or integers (unsorted, repeats allowed)."""
        found = self.fields[field][rows]
        return found.copy() if isinstance(rows, slice) else found

    def chunks(self, *fields: str, rows: int = 1024):
        """The set in order, ``rows`` samples at a time: (start, {field: array})."""
        for start in range(0, len(self), rows):
            yield start, {field: self.read(field, slice(start, start + rows)) for field in fields}


def _look(file):
    """Texts by name, the places of the fields, and what is wrong with the file."""
    if problems := _structure(file):
        return {}, {}, problems
    told = {name: hdf5.text(file, name) for name in ("key", "provenance", "metadata")}
    told["classes"] = _classes(file)
    return told, hdf5.places(file, [*_present(file), *_networks(file)]), []


def _present(file):
    optional = ("targets", "weights", "logits") if _is_dense(file) else ("targets", "weights")
    return [name for name in FIELDS if name in list(file) or name not in optional]


def _is_dense(file) -> bool:
    """Does a file say that it is for segmentation? Only then it need not have logits."""
    return "num_classes" in file.attrs


def _classes(file) -> int:
    return int(hdf5.numbers(file, "num_classes")) if _is_dense(file) else file["logits"].shape[1]


def _networks(file):
    link = file.get(NETWORKS, getlink=True)
    if link is not None and not (isinstance(link, h5py.HardLink) and isinstance(file[NETWORKS], h5py.Group)):
        raise ValueError(f"{NETWORKS} is no group of this file")
    if link and len(file[NETWORKS]) > MAX_NETWORKS:
        raise ValueError(f"{len(file[NETWORKS])} networks, more than {MAX_NETWORKS}")
    return [f"{NETWORKS}/{name}" for name in file[NETWORKS]] if link else []


def _structure(file) -> list[str]:
    kind, version = hdf5.text(file, "kind"), hdf5.numbers(file, "schema_version")
    if kind != KIND:
        return [f"is no transfer set (attribute kind is {one_line(repr(kind))}, expected {KIND!r})"]
    if not np.array_equal(version, SCHEMA_VERSION):
        return [f"has schema version {one_line(version)}, this program reads {SCHEMA_VERSION}"]
    problems = [] if hdf5.text(file, "key") else ["attribute key is missing"]
    problems += [f"attribute {name} is no JSON mapping" for name in ("provenance", "metadata") if not _is_mapping(file, name)]
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
    task = tasks.SEGMENTATION if _is_dense(file) else tasks.CLASSIFICATION
    layout = Layout(images.shape[1:], _classes(file), str(images.dtype), "targets" in file, "weights" in file, task)
    expected = {name: ((len(images), *shape), kind) for name, shape, kind in layout.fields()}
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
            return f"num_classes is {one_line(repr(number))}, images have shape {images.shape}: no set for segmentation"
        return None
    logits = file["logits"]
    if logits.ndim != 2:
        return f"logits have shape {logits.shape}, expected (N,K)"
    if 0 in (*images.shape[1:], logits.shape[1]):
        return f"images have shape {images.shape} and logits {logits.shape}; only N may be 0"
    return None


def class_counts(path_or_set) -> np.ndarray:
    """Samples per class (K), by the teacher's argmax; for segmentation pixels."""
    if not isinstance(path_or_set, TransferSet):
        with TransferSet(path_or_set) as opened:
            return class_counts(opened)
    counts = np.zeros(path_or_set.layout.num_classes, np.int64)
    for _, part in path_or_set.chunks("labels"):
        counts += np.bincount(part["labels"].ravel(), minlength=len(counts))
    return counts
