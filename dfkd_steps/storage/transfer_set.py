"""transfer_set.h5, schema version 1: write, resume, read in chunks (``verify_set`` reads all of it).

/images      (N,C,H,W)  uint8 by rounding, or float16 / float32 in [0,1]; chunked by whole batches
/logits      (N,K)      float32, the teacher's on the stored image
/labels      (N)        int64, argmax of the logits
/targets     (N,K)      float32, the soft target the image was made for; absent where there is none
/weights     (N)        float32, sampling weights with mean 1; absent where sampling is uniform
/generation  (N)        int32, the round it was made in
/networks/NAME (bytes)  uint8, a network that was trained with the set (generator, student) as a safetensors file; if any
attributes   schema_version, kind, key, provenance (JSON), about (JSON: what people are to be told of the set)
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from ..runtime.errors import CORRUPT_FILE_ERRORS, UserError, one_line
from . import hdf5
from .image_format import IMAGE_TYPES
from .journal import Journal
from .rows import Rows

SCHEMA_VERSION = 1
KIND = "transfer_set"
NETWORKS, NETWORK_CHUNK = "networks", 4 << 20
FIELDS = ("images", "logits", "labels", "targets", "weights", "generation")


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


class Writer:
    """Appends batches to a working file that survives kill -9 (a journal), and resumes it when it carries the same key."""

    def __init__(self, path, key: str, layout: Layout):
        self.path, self.key, self.layout = Path(path), key, layout
        self.journal = Journal(self.path, json.dumps({"key": key, "layout": asdict(layout)}).encode())
        self.done, self.counts = 0, np.zeros(layout.num_classes, np.int64)
        for part in self._batches():
            self._count(part)

    @property
    def batches(self) -> int:
        """Batches that are safely stored. ``done`` counts samples, ``counts`` samples per class (K)."""
        return len(self.journal)

    def append(self, **fields: np.ndarray):
        """Store one batch: every field of the layout, same number of rows each; images as ``to_stored`` gives them."""
        rows, part = len(fields["images"]), {}
        for name, shape, kind in self.layout.fields():
            value = np.asarray(fields[name])
            if value.shape != (rows, *shape):
                raise ValueError(f"{name}: shape {value.shape}, expected {(rows, *shape)}")
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise FloatingPointError(f"{name}: not a finite number in batch {self.batches}")
            part[name] = np.ascontiguousarray(value.astype(kind, copy=False))
        if rows:
            self.journal.append(b"".join(value.tobytes() for value in part.values()))
            self._count(part)

    def _count(self, part):
        self.done += len(part["labels"])
        self.counts += np.bincount(part["labels"], minlength=len(self.counts))

    def _batches(self):
        """The batches stored so far, each {field: array}."""
        fields = [(name, shape, np.dtype(kind)) for name, shape, kind in self.layout.fields()]
        width = sum(math.prod(shape) * kind.itemsize for _, shape, kind in fields)
        for content in self.journal:
            part, at, rows = {}, 0, len(content) // width
            for name, shape, kind in fields:
                part[name] = np.frombuffer(content, kind, rows * math.prod(shape), at).reshape(rows, *shape)
                at += part[name].nbytes
            yield part

    def finish(self, whole, provenance: dict, about: dict, networks: dict | None = None):
        """Write the set as HDF5; its bytes do not tell how often the work was interrupted. Closes the working file.

        networks: name -> the bytes of its safetensors file.
        """
        if not self.done:
            raise UserError(f"{self.path.parent}: no sample is left; loosen what selects them (threshold, deficit)")
        chunk = max(1, min(self.layout.chunk, self.done))
        fields = {name: ((self.done, *shape), kind, chunk) for name, shape, kind in self.layout.fields()}
        for name, content in (networks or {}).items():
            fields[f"{NETWORKS}/{name}"] = (len(content),), "uint8", min(len(content), NETWORK_CHUNK)
        with hdf5.create(whole, fields) as (out, made):
            out.attrs["schema_version"], out.attrs["kind"], out.attrs["key"] = SCHEMA_VERSION, KIND, self.key
            out.attrs["provenance"] = json.dumps(provenance, sort_keys=True)
            out.attrs["about"] = json.dumps(about, sort_keys=True)
            for part in self._batches():
                for name, values in part.items():
                    made[name].append(values)
            for name, content in (networks or {}).items():
                made[f"{NETWORKS}/{name}"].append(np.frombuffer(content, np.uint8))
        self.close()

    def close(self):
        """Close the working file; it stays."""
        self.journal.close()


class TransferSet:
    """A transfer set on disk, read in chunks. A context manager; raises UserError for a foreign or broken file."""

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path}: no such file; make it first (snakemake {path})")
        try:
            self.file = h5py.File(path, "r")
        except CORRUPT_FILE_ERRORS as error:
            raise UserError(f"{path}: is damaged or no HDF5 file ({one_line(error)}); delete it and make it again") from None
        try:
            problems = _structure(self.file)
        except CORRUPT_FILE_ERRORS as error:
            problems = [f"is damaged ({one_line(error)})"]
        if problems:
            self.file.close()
            raise UserError("\n".join(f"{path}: {problem}; delete it and make it again" for problem in problems))
        self.provenance, self.about = json.loads(self.file.attrs["provenance"]), json.loads(self.file.attrs["about"])
        self.key, self.rows = self.file.attrs["key"], {}

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
        images, classes = self.file["images"], self.file["logits"].shape[1]
        return Layout(images.shape[1:], classes, images.chunks[0], str(images.dtype), "targets" in self, "weights" in self)

    def require_fit(self, description):
        """Raise UserError unless the set has the image shape and the classes of a network's ``Description``."""
        mine = tuple(self.layout.image_shape), self.layout.num_classes
        wanted = tuple(description.image_shape), description.num_classes
        if mine != wanted:
            raise UserError(
                f"{self.path}: images {mine[0]} with {mine[1]} classes, but the teacher takes "
                f"{wanted[0]} with {wanted[1]}; make the set for this teacher"
            )

    def networks(self) -> dict[str, bytes]:
        """The networks kept with the set, by name, as the bytes of safetensors files; raises UserError where damaged."""
        if NETWORKS not in self.file:
            return {}
        try:
            names = list(self.file[NETWORKS])
            if problems := hdf5.faults(self.file, (f"{NETWORKS}/{name}" for name in names)):
                raise ValueError(problems[0])
            return {name: self.file[NETWORKS][name][()].astype(np.uint8).tobytes() for name in names}
        except CORRUPT_FILE_ERRORS as error:
            raise UserError(f"{self.path}: its networks are damaged ({one_line(error)}); delete it and make it again") from None

    def read(self, field: str, rows=slice(None)) -> np.ndarray:
        """Rows of a field as stored. ``rows``: a slice, or sorted unique indices."""
        return self.file[field][rows]

    def gather(self, field: str, rows) -> np.ndarray:
        """Rows of a field as stored, read from the file. ``rows``: any integer array, unsorted, repeats allowed."""
        reader = self.rows.get(field) or self.rows.setdefault(field, Rows(self.file[field]))
        return reader(rows)

    def chunks(self, *fields: str, rows: int = 1024):
        """The set in order, ``rows`` samples at a time: (start, {field: array})."""
        for start in range(0, len(self), rows):
            yield start, {field: self.file[field][start : start + rows] for field in fields}


def _structure(file) -> list[str]:
    kind, version = (file.attrs.get(name) for name in ("kind", "schema_version"))
    if not isinstance(kind, str) or kind != KIND:
        return [f"is no transfer set (attribute kind is {one_line(repr(kind))}, expected {KIND!r})"]
    if not np.array_equal(version, SCHEMA_VERSION):
        return [f"has schema version {one_line(repr(version))}, this program reads {SCHEMA_VERSION}"]
    problems = [] if isinstance(file.attrs.get("key"), str) else ["attribute key is missing"]
    texts = {name: file.attrs.get(name) for name in ("provenance", "about")}
    problems += [f"attribute {name} is no JSON mapping" for name, text in texts.items() if not _is_mapping(text)]
    problems += hdf5.faults(file, (name for name in FIELDS if name in list(file) or name not in ("targets", "weights")))
    return problems or _shapes(file)


def _is_mapping(text) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, TypeError, RecursionError):
        return False


def _shapes(file) -> list[str]:
    images, logits = file["images"], file["logits"]
    if images.ndim != 4 or str(images.dtype) not in IMAGE_TYPES:
        return [f"images are {images.dtype} of shape {images.shape}, expected uint8 or float (N,C,H,W)"]
    if logits.ndim != 2:
        return [f"logits have shape {logits.shape}, expected (N,K)"]
    if 0 in (*images.shape[1:], logits.shape[1]):
        return [f"images have shape {images.shape} and logits {logits.shape}; only N may be 0"]
    layout, problems = Layout(images.shape[1:], logits.shape[1], 1, str(images.dtype), "targets" in file, "weights" in file), []
    for name, shape, kind in layout.fields():
        field, expected = file[name], (len(images), *shape)
        if field.shape != expected or str(field.dtype) != kind:
            problems.append(f"{name} is {field.dtype} of shape {field.shape}, expected {kind} {expected}")
        elif fault := hdf5.chunk_fault(field):
            problems.append(f"{name} {fault}")
    return problems


def class_counts(path_or_set) -> np.ndarray:
    """Samples per class (K), by the teacher's argmax."""
    if not isinstance(path_or_set, TransferSet):
        with TransferSet(path_or_set) as opened:
            return class_counts(opened)
    return np.bincount(path_or_set.read("labels"), minlength=path_or_set.layout.num_classes)
