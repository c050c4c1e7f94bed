"""dataset.h5: uint8 images of a task, its labels, its class names, its mean and std.

/x_train /x_test (N,C,H,W) uint8    /y_train /y_test (N) int64    attributes: kind, key, provenance, classes (JSON), mean, std
"""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from .errors import UserError, one_line

KIND = "dataset"


@dataclass(frozen=True)
class Dataset:
    """A data set opened for reading; arrays are read when asked for."""

    path: Path
    key: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: dict[str, int]

    def read(self, split: str, rows=slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Images (N,C,H,W) uint8 and labels (N) int64 of 'train' or 'test'; ``rows``: a slice, or sorted indices."""
        with h5py.File(self.path, "r") as file:
            return file[f"x_{split}"][rows], file[f"y_{split}"][rows]


def write(path, key: str, provenance: dict, classes, arrays: dict[str, np.ndarray]):
    """Write x_train, y_train, x_test, y_test; mean and std per channel of the training images in [0,1]."""
    images = arrays["x_train"]
    # By rows of a histogram and not by a float copy: exact, and no memory beyond the images.
    counts = np.zeros((images.shape[1], 256), np.int64)
    for start in range(0, len(images), 1024):  # in pieces, because bincount widens what it counts
        for channel, pixels in enumerate(images[start : start + 1024].swapaxes(0, 1)):
            counts[channel] += np.bincount(pixels.ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    std = np.sqrt(np.maximum(counts @ values**2 / counts.sum(1) - mean**2, 1e-12))
    with h5py.File(path, "w") as file:
        file.attrs["kind"], file.attrs["key"] = KIND, key
        file.attrs["provenance"], file.attrs["classes"] = json.dumps(provenance, sort_keys=True), json.dumps(list(classes))
        file.attrs["mean"], file.attrs["std"] = mean, std
        for name in sorted(arrays):
            chunk = (min(256, len(arrays[name])), *arrays[name].shape[1:])
            file.create_dataset(name, data=arrays[name], chunks=chunk, track_times=False)


def open_dataset(path) -> Dataset:
    """Open dataset.h5; raises UserError where it is missing, damaged or another kind of file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it first (snakemake {path})")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("kind") != KIND:
                raise UserError(
                    f"{path}: is no data set of dfkd (attribute kind is {file.attrs.get('kind')!r}); delete it and make it again"
                )
            sizes = {split: len(file[f"x_{split}"]) for split in ("train", "test")}
            return Dataset(path, file.attrs["key"], tuple(json.loads(file.attrs["classes"])), file["x_train"].shape[1:],
                           tuple(map(float, file.attrs["mean"])), tuple(map(float, file.attrs["std"])), sizes)  # fmt: skip
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: is damaged ({one_line(error)}); delete it and make it again") from None
