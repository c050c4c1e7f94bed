"""transfer_set.h5, schema version 1: write, resume, read in chunks, verify.

    /images      (N,C,H,W)  uint8 by rounding, or float16 / float32 in [0,1]; chunked by whole batches
    /logits      (N,K)      float32, the teacher's on the stored image
    /labels      (N)        int64, argmax of the logits
    /targets     (N,K)      float32, the soft target the image was made for; absent where there is none
    /weights     (N)        float32, sampling weights with mean 1; absent where sampling is uniform
    /generation  (N)        int32, the round it was made in
    attributes   schema_version, kind, key, provenance (JSON), about (JSON: what people are to be told of the set)
"""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from .errors import UserError

SCHEMA_VERSION = 1
KIND = "transfer_set"
IMAGE_TYPES = ("uint8", "float16", "float32")
FIELDS = ("images", "logits", "labels", "targets", "weights", "generation")
COPY_ROWS = 4096


@dataclass(frozen=True)
class Layout:
    """Shapes of a set: image (C,H,W), K classes, samples per chunk, element type, and which optional fields it has."""

    image_shape: tuple[int, int, int]
    num_classes: int
    chunk: int
    image_type: str = "uint8"
    targets: bool = True
    weights: bool = False

    def fields(self):
        """Name, shape of one sample, and element type of each field."""
        yield "images", tuple(self.image_shape), self.image_type
        yield "logits", (self.num_classes,), "float32"
        yield "labels", (), "int64"
        if self.targets:
            yield "targets", (self.num_classes,), "float32"
        if self.weights:
            yield "weights", (), "float32"
        yield "generation", (), "int32"


def to_stored(images: np.ndarray, image_type: str) -> np.ndarray:
    """Images in [0,1] as they are stored: uint8 by rounding, or floats."""
    if image_type == "uint8":
        return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    return np.clip(images, 0, 1).astype(image_type)


def to_unit(images: np.ndarray) -> np.ndarray:
    """Stored images as float32 in [0,1]."""
    return images.astype(np.float32) / 255 if images.dtype == np.uint8 else images.astype(np.float32)


class Writer:
    """Appends batches to a working file that survives kill -9, and resumes it when it carries the same key.

    Data are flushed before the counter ``done``, so that a counted batch is whole. HDF5's default libver: files
    written with 'latest' do not open after kill -9.
    """

    def __init__(self, path, key: str, layout: Layout):
        self.path, self.layout = Path(path), layout
        self.file = self._reopen(key) or self._create(key)

    def _reopen(self, key):
        try:
            file = h5py.File(self.path, "r+")
        except (OSError, RuntimeError):
            return None
        try:
            if file.attrs.get("key") == key and "done" in file.attrs:
                done = int(file.attrs["done"])
                if all(len(file[name]) >= done for name, _, _ in self.layout.fields()):
                    return file
        except (OSError, RuntimeError, KeyError):
            pass
        file.close()
        return None

    def _create(self, key):
        file = h5py.File(self.path, "w")
        _fields(file, self.layout, 0, resizable=True)
        file.attrs["batches"], file.attrs["done"], file.attrs["state"] = 0, 0, ""
        file.flush()
        file.attrs["key"] = key
        file.flush()
        return file

    @property
    def done(self) -> int:
        """Samples that are safely stored."""
        return int(self.file.attrs["done"])

    @property
    def batches(self) -> int:
        """Batches that are safely stored."""
        return int(self.file.attrs["batches"])

    def append(self, **fields: np.ndarray):
        """Store one batch: every field of the layout, same number of rows each; images as ``to_stored`` gives them."""
        start, rows = self.done, len(fields["images"])
        for name, shape, kind in self.layout.fields():
            value = np.asarray(fields[name])
            if value.shape != (rows, *shape):
                raise ValueError(f"{name}: shape {value.shape}, expected {(rows, *shape)}")
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise FloatingPointError(f"{name}: not a finite number in batch {self.batches}")
            self.file[name].resize(start + rows, axis=0)
            self.file[name][start : start + rows] = value.astype(kind, copy=False)
        self.file.flush()
        self.file.attrs["done"], self.file.attrs["batches"] = start + rows, self.batches + 1
        self.file.flush()

    def finish(self, whole, provenance: dict, about: dict):
        """Copy into a fresh file, so that bytes do not tell how often the work was interrupted; close both."""
        rows, key = self.done, self.file.attrs["key"]
        with h5py.File(whole, "w") as out:
            out.attrs["schema_version"], out.attrs["kind"], out.attrs["key"] = SCHEMA_VERSION, KIND, key
            out.attrs["provenance"] = json.dumps(provenance, sort_keys=True)
            out.attrs["about"] = json.dumps(about, sort_keys=True)
            _fields(out, self.layout, rows, resizable=False)
            for name, _, _ in self.layout.fields():
                for start in range(0, rows, COPY_ROWS):
                    stop = min(start + COPY_ROWS, rows)
                    out[name][start:stop] = self.file[name][start:stop]
        self.file.close()

    def close(self):
        """Close the working file; it stays."""
        self.file.close()


def _fields(file, layout, rows, resizable):
    for name, shape, kind in layout.fields():
        chunk = max(1, min(layout.chunk, rows or layout.chunk))
        file.create_dataset(name, (rows, *shape), kind, chunks=(chunk, *shape), maxshape=(None if resizable else rows, *shape), track_times=False)


class TransferSet:
    """A transfer set on disk, read in chunks. A context manager; raises UserError for a foreign or broken file."""

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path}: no such file; make it first (snakemake {path})")
        try:
            self.file = h5py.File(path, "r")
        except (OSError, RuntimeError) as error:
            raise UserError(f"{path}: is damaged or no HDF5 file ({' '.join(str(error).split())[:100]}); delete it and make it again") from None
        if problems := _structure(self.file):
            self.file.close()
            raise UserError(f"{path}: {problems[0]}; delete it and make it again")
        self.provenance, self.about = json.loads(self.file.attrs["provenance"]), json.loads(self.file.attrs["about"])
        self.key = self.file.attrs["key"]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()

    def __len__(self):
        return len(self.file["images"])

    def __contains__(self, field):
        return field in self.file

    @property
    def layout(self) -> Layout:
        """Shapes, chunk and fields of this set."""
        images = self.file["images"]
        return Layout(images.shape[1:], self.file["logits"].shape[1], images.chunks[0], str(images.dtype), "targets" in self, "weights" in self)

    def read(self, field: str, rows=slice(None)) -> np.ndarray:
        """Rows of a field as stored. ``rows``: a slice, or sorted unique indices."""
        return self.file[field][rows]

    def chunks(self, *fields: str, rows: int = 1024):
        """The set in order, ``rows`` samples at a time: (start, {field: array})."""
        for start in range(0, len(self), rows):
            yield start, {field: self.file[field][start : start + rows] for field in fields}


def _structure(file) -> list[str]:
    attributes = file.attrs
    if attributes.get("kind") != KIND:
        return [f"is no transfer set (attribute kind is {attributes.get('kind')!r}, expected {KIND!r})"]
    if attributes.get("schema_version") != SCHEMA_VERSION:
        return [f"has schema version {attributes.get('schema_version')!r}, this program reads {SCHEMA_VERSION}"]
    problems = [f"attribute {name} is missing" for name in ("key", "provenance", "about") if not isinstance(attributes.get(name), str)]
    for name in ("provenance", "about"):
        try:
            json.loads(attributes.get(name, "{}"))
        except ValueError:
            problems.append(f"attribute {name} is no JSON")
    for name in FIELDS:
        link = file.get(name, getlink=True)
        if link is None:
            if name not in ("targets", "weights"):
                problems.append(f"field {name} is missing")
        elif not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
            problems.append(f"field {name} is no data set of this file")
        elif file[name].external or file[name].is_virtual:
            problems.append(f"field {name} lies in another file")
    if problems:
        return problems
    images, logits = file["images"], file["logits"]
    if images.ndim != 4 or str(images.dtype) not in IMAGE_TYPES or images.chunks is None:
        return [f"images are {images.dtype} of shape {images.shape}, expected chunked uint8 or float (N,C,H,W)"]
    if logits.ndim != 2:
        return [f"logits have shape {logits.shape}, expected (N,K)"]
    layout = Layout(images.shape[1:], logits.shape[1], 1, str(images.dtype), "targets" in file, "weights" in file)
    for name, shape, kind in layout.fields():
        if file[name].shape != (len(images), *shape) or str(file[name].dtype) != kind:
            problems.append(f"{name} is {file[name].dtype} of shape {file[name].shape}, expected {kind} {(len(images), *shape)}")
    return problems


def verify(path) -> list[str]:
    """What is wrong with a transfer set, a line each; empty when nothing is. Reads all of it, in chunks."""
    try:
        opened = TransferSet(path)
    except UserError as error:
        return [str(error)]
    problems = []
    with opened as transfer:
        if not len(transfer):
            problems.append("holds no samples")
        try:
            for start, part in transfer.chunks(*(name for name, _, _ in transfer.layout.fields())):
                problems += [f"rows {start} to {start + len(part['labels']) - 1}: {fault}" for fault in _content(part)]
                if len(problems) > 20:
                    break
        except (OSError, RuntimeError) as error:
            problems.append(f"cannot be read to its end ({' '.join(str(error).split())[:100]})")
    return problems


def _content(part):
    for name in ("images", "logits", "targets", "weights"):
        if name in part and part[name].dtype.kind == "f" and not np.isfinite(part[name]).all():
            yield f"{name} has values that are not finite"
    if part["images"].dtype.kind == "f" and (part["images"].min() < 0 or part["images"].max() > 1):
        yield "images leave [0,1]"
    if not np.array_equal(part["labels"], part["logits"].argmax(1)):
        yield "labels are not the argmax of the logits"
    if "targets" in part and (part["targets"].min() < 0 or abs(part["targets"].sum(1) - 1).max() > 1e-3):
        yield "targets are no probabilities"
    if "weights" in part and part["weights"].min() < 0:
        yield "weights are negative"


def class_counts(path_or_set) -> np.ndarray:
    """Samples per class (K), by the teacher's argmax."""
    if not isinstance(path_or_set, TransferSet):
        with TransferSet(path_or_set) as opened:
            return class_counts(opened)
    return np.bincount(path_or_set.read("labels"), minlength=path_or_set.layout.num_classes)
