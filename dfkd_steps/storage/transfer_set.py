"""transfer_set.h5, schema version 2: write, resume, read (``verify`` reads all of it).

/images      (N,C,H,W)  uint8 by rounding, or float16 / float32 in [0,1]
/logits      (N,K)      float32, the teacher's on the stored image
/labels      (N)        int64, argmax of the logits; for segmentation (N,H,W) uint8, and no logits: whoever wants them asks the
                        teacher again
/targets     (N,K)      float32, the soft target the image was made for; absent where there is none
/weights     (N)        float32, sampling weights with mean 1; absent where sampling is uniform
/round       (N)        int32, the round it was made in
/source      (N)        int64, the sample of the set before balancing that it is or was made from; absent where none was copied
/networks/NAME (bytes)  uint8, a network that was trained with the set (generator, student) as a safetensors file; if any
attributes   schema_version, kind, key, num_classes (for segmentation), provenance (JSON), metadata (JSON: what people are to be
             told of the set)

All of it is contiguous and uncompressed.
"""

import json
import os
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..runtime import disk, progress
from ..runtime.errors import UserError, reading, remedy_for, require_file
from . import hdf5
from .image_format import to_unit
from .set_layout import KIND, NETWORKS, SCHEMA_VERSION, Layout, look


class Writer:
    """Fills a working file batch by batch, at most ``total`` samples; kill -9 costs one batch.

    A counter beside it (``PATH.done``) says how much is there, under which key and layout, and with which checksums: after
    a crash of the machine the rows may be lost that it counts. A working file of anything else starts over.
    """

    def __init__(self, path, key: str, layout: Layout, total: int, resume=True):
        if not total:
            raise UserError(f"{Path(path).parent}: no samples are left; select more of them (threshold, deficit)")
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
            if counted["head"] != self.head or not self.path.is_file():
                return None
            progress.resumed(counted.get("seconds", 0.0))
            return counted["done"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _stored(self) -> dict[str, int]:
        """Checksums of the samples that are there."""
        checksums = dict.fromkeys(self.fields, 0)
        for name in self.fields:
            for _, values in self.rows.pieces(name, self.done):
                checksums[name] = zlib.crc32(values.data, checksums[name])
        return checksums

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
        counted = {"head": self.head, "done": [self.batches, self.done, self.checks], "seconds": progress.spent()}
        Path(beside).write_text(json.dumps(counted))
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

    As it has a length and items, a ``torch.utils.data.DataLoader`` takes it for a data set. A process that gets it opens the file
    again, so it has to find it there.
    """

    def __init__(self, path):
        self.path = Path(path)
        require_file(path)
        instead = remedy_for(path, "transfer_set.h5")
        with reading(path, "is damaged or not an HDF5 file", instead):
            texts, places, problems = hdf5.structure(path, look)
            if problems:
                raise UserError("\n".join(f"{path}: {problem}; {instead}" for problem in problems))
            self.provenance, self.metadata = (json.loads(texts[name]) for name in ("provenance", "metadata"))
            self.key, self._classes, self.fields = texts["key"], texts["classes"], hdf5.mapped(path, places)
        if not hdf5.labels_fit(self.fields["labels"], self._classes):
            raise UserError(f"{path}: has labels outside 0 to {self._classes - 1}; delete it and make it again")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.fields = {}

    def __reduce__(self):
        return type(self), (self.path.absolute(),)  # the rows of a memory map would all be copied

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
        return Layout.of(self.fields, self._classes)

    def require_fit(self, description):
        """Raise UserError unless the set has the image shape and classes of a network's ``Description``, and finite logits."""
        mine = tuple(self.layout.image_shape), self.layout.num_classes
        needed = tuple(description.image_shape), description.num_classes
        if mine != needed:
            raise UserError(
                f"{self.path}: images {mine[0]} with {mine[1]} classes, but the teacher takes "
                f"{needed[0]} with {needed[1]}; make the set for this teacher"
            )
        if self.layout.task != description.task:
            raise UserError(
                f"{self.path}: is for {self.layout.task}, but the teacher is for {description.task}; make it for this teacher"
            )
        for name in (field for field in ("logits", "weights") if field in self):
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
        return hdf5.copied(self.fields[field], rows)

    def chunks(self, *fields: str, rows: int = 1024):
        """The set in order, at most ``rows`` samples and a few MB at a time: (start, {field: array})."""
        width = sum(map(self.nbytes, fields)) // max(1, len(self))
        rows = min(rows, disk.rows_of_a_piece(width))
        for start in range(0, len(self), rows):
            yield start, {field: self.read(field, slice(start, start + rows)) for field in fields}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows of stored logits (N,K) as probabilities, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def class_counts(transfer: TransferSet) -> np.ndarray:
    """Samples per class (K), by the teacher's argmax; for segmentation pixels."""
    counts = np.zeros(transfer.layout.num_classes, np.int64)
    for _, part in transfer.chunks("labels"):
        counts += np.bincount(part["labels"].ravel(), minlength=len(counts))
    return counts
