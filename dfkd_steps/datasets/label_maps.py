"""Data sets for segmentation: an .npz file with maps, folders of images and masks, and drawn shapes. 255 = void."""

import os
from pathlib import Path

import numpy as np
import torch

from ..models.tasks import MOST_CLASSES, VOID
from ..procedural import shapes
from ..runtime import disk, progress
from ..runtime.errors import UserError, first_of, reading, require_file
from ..runtime.seeds import seed_of
from . import array_files, image_files, on_disk
from .array_files import Source, pin

MASK_FORMATS = ("PNG", "BMP", "TIFF")  # without loss
ORIENTATION = 0x0112  # EXIF tag: 1 = as stored, 2 to 8 = turned or mirrored
STRETCHED = {2: 85, 4: 17}  # bits of a grey PNG -> what Pillow multiplies its values by
MOST_LACKING = 5  # classes that a warning names
TEST_PART = 4  # of drawn shapes: training images by test images


def npz(config) -> Source:
    """A data set in an .npz file whose labels are maps; every fault it can have is one line."""
    path, arrays = array_files.read_archive(config, maps=True)
    if len(arrays["x_train"].shape) != 4 or arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        train, test = ("x".join(map(str, arrays[name].shape[1:])) for name in ("x_train", "x_test"))
        raise UserError(f"{path}: images are {train} in x_train, {test} in x_test (C x H x W); use one shape for both")
    for split in ("train", "test"):
        images, maps = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if maps.shape != (len(images), *images.shape[2:]):
            raise UserError(
                f"{path}: y_{split} has shape {maps.shape}, but x_{split} has {images.shape}; give each image a map of its size"
            )
    return source(path, arrays, tuple(config.names), config.void)


def source(
    where, arrays, names, void: int, test_share: float = 0.0, classes: int = 0, some: bool = False, files: dict | None = None
) -> Source:
    """Images and maps as a ``Source``: void is 255, and the other labels are the classes from 0 on. Where the files have a class
    behind ``void``, theirs are moved together. ``names`` and ``classes`` may be empty and 0: then there are as many classes as
    the training maps have. ``some``: these are not all maps of the data set. ``files``: by name of an array the file of each map.
    """
    converted, counted = dict(arrays), classes
    for name in (name for name in arrays if name[0] == "y"):
        values = np.unique(arrays[name])
        labels = values[(values != void) & (values != VOID)]
        largest = int(labels.max()) if len(labels) else -1
        classes = len(names) or classes or largest + (largest < void)
        if classes > MOST_CLASSES or classes < 2:
            raise UserError(f"{where}: {name} has {classes} classes; segmentation takes 2 to {MOST_CLASSES}")
        last = classes - 1 + (void < classes)
        if len(labels) and (labels.min() < 0 or largest > last):
            wrong = labels[(labels < 0) | (labels > last)][0]
            row = int((arrays[name] == wrong).reshape(len(arrays[name]), -1).any(1).argmax())
            place = files[name][row] if files else f"{where}: {name}[{row}]"
            remedy = "name all classes (names), or say which label is void" if wrong >= 0 else "store void as 255"
            raise UserError(
                f"{place}: has the label {wrong}, but the classes are {spelled(classes, void)} and void is {void}; {remedy}"
            )
        if not len(labels) and not some:
            raise UserError(
                f"{where}: {name} has no pixel of a class, all are void; give masks with classes, or correct void (now {void})"
            )
        if name == "y_train" and void < classes and largest != last and not some and counted != len(names):
            also = f", or, if no training mask has the last class, add classes: {classes}" if files else ""
            raise UserError(
                f"{where}: {name} has no label {last}, but void is {void}, and so the {classes} classes are "
                f"{spelled(classes, void)}; leave void out of names, or store it as 255{also}"
            )
        maps = np.where(arrays[name] > void, arrays[name] - 1, arrays[name]) if void < classes else arrays[name]
        converted[name] = np.where((arrays[name] == void) | (arrays[name] == VOID), VOID, maps).astype(np.uint8)
        if not some:
            there, has_void = labels - (labels > void), len(values) > len(labels)
            look_for_classes(f"{where}: {name}", there, has_void, names or tuple(map(str, range(classes))), name == "y_train")
    return Source(names or tuple(map(str, range(classes))), converted, test_share, str(where))


def look_for_classes(where: str, classes, has_void: bool, names, whole: bool):
    """Of maps with pixels of these ``classes`` (numbers, one at least): raise UserError where they are ``whole``, all there are
    to learn from, and have one class alone; a warning where they lack a class, or where maps of two classes have void in place of
    the second, as masks of one object have."""
    second_is_void = len(classes) == 1 and len(names) == 2 and has_void
    remedy = "255 is void: if it marks a class, store that as 1" if second_is_void else "give masks with two classes or more"
    if whole and len(classes) == 1:
        raise UserError(f"{where} has pixels of one class alone, {names[classes[0]]!r}; {remedy}")
    if second_is_void:
        progress.say(f"WARNING: {where} has no pixel of a class but {names[classes[0]]!r}; {remedy}")
    elif whole and (lacking := [name for number, name in enumerate(names) if number not in classes]):
        progress.say(f"WARNING: {where} has no pixel of {len(lacking)} classes: {first_of(lacking, MOST_LACKING)}")


def spelled(classes: int, void: int) -> str:
    """The labels of so many classes in files in which ``void`` is none, like "0 to 4 without 2"."""
    if void >= classes:
        return f"0 to {classes - 1}"
    return f"0 to {classes} without {void}" if void else f"1 to {classes}"


# ---------------------------------------------------------------------------------------------- masks
def masks(config, room=None, most=0, some=False) -> Source:
    """A folder with images/ and masks/, or with train/ and test/ (or val/) of such.

    ``room``, ``most``: as of ``readers.read``; memory holds maps. ``some``: as of ``source``; ``most`` implies it.
    """
    folder = Path(config.path)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; put images/ and masks/ there or correct path in the YAML file")
    split = _has_pairs(folder / "train") or ((folder / "train").is_dir() and not _has_pairs(folder))
    pairs = {"train": _pairs(folder / "train" if split else folder)}
    if place := image_files.test_part(folder) if split else None:
        pairs["test"] = _pairs(place)
    files = [path for part in pairs.values() for pair in part for path in pair]
    pin(config, folder, files, [os.path.relpath(path, folder) for path in files])
    arrays, of_maps = {}, {}
    for name, part in pairs.items():
        part = [part[row] for row in image_files.few(part[0][0].parent, np.zeros(len(part), int), most)]
        arrays |= _decoded(config, part, name, room)
        of_maps[f"y_{name}"] = [mask for _, mask in part]
    test_share = 0.0 if "test" in pairs else config.test_share
    return source(folder, arrays, tuple(config.names), config.void, test_share, config.classes, some or bool(most), of_maps)


def _has_pairs(folder: Path) -> bool:
    return all((folder / kind).is_dir() for kind in ("images", "masks"))


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Image and mask of each name, sorted."""
    paths = {}
    for kind in ("images", "masks"):
        if not (folder / kind).is_dir():
            raise UserError(f"{folder}: no folder {kind}/; give images/ and masks/ with matching file names")
        paths[kind] = {}
        for path in sorted((folder / kind).iterdir()):
            if path.name[0] == "." or path.name in disk.LITTER or not path.is_file():
                continue
            if other := paths[kind].get(path.stem):
                raise UserError(
                    f"{path.parent}: {other.name[:60]!r} and {path.name[:60]!r} have one name before the dot; rename or remove "
                    "one, so that each image has a mask of its own"
                )
            paths[kind][path.stem] = path
    if alone := sorted(paths["images"].keys() ^ paths["masks"].keys()):
        there = "images" if alone[0] in paths["images"] else "masks"
        raise UserError(
            f"{folder}: {there}/ has {alone[0][:60]!r}, but the other folder does not; give an image and a mask of each name"
        )
    if not paths["images"]:
        raise UserError(f"{folder / 'images'}: contains no files; put images there")
    return [(path, paths["masks"][stem]) for stem, path in paths["images"].items()]


def _decoded(config, pairs, split, room) -> dict[str, np.ndarray]:
    """Images and masks of a split, both resized so that they cover the size and cut to it about the centre, or squashed."""
    from PIL import Image

    size = (config.width or config.height, config.height)
    shape = (len(pairs), config.channels, size[1], size[0])
    maps = np.empty((len(pairs), size[1], size[0]), np.uint8)

    def fill(images):
        for row, (image, mask) in enumerate(progress.bar(pairs, desc=f"images {split}", unit="img")):
            stored = _stored_mask(mask)
            images[row] = _image(image, mask, stored.size, size, config.channels, config.fit)
            maps[row] = _resized(stored, size, config.fit, Image.Resampling.NEAREST)

    return {f"x_{split}": on_disk.filled(pairs[0][0].parent, shape, room, fill), f"y_{split}": maps}


def _resized(image, size, how: str, resample) -> np.ndarray:
    """The pixels of an image of Pillow's at ``size`` (width, height)."""
    from PIL import ImageOps

    return np.asarray(ImageOps.fit(image, size, resample) if how == "crop" else image.resize(size, resample))


def _image(path, mask, mask_size, size, channels: int, how: str) -> np.ndarray:
    """One image (C,H,W) uint8, lying as its ``mask`` does, which has so many pixels (width, height) in its file.

    A mask has no EXIF tag: where the image has one, the mask's size tells whether it was drawn on the image as stored or as
    viewers turn it; UserError where it is the size of neither, or of both.
    """
    from PIL import Image, ImageOps

    with image_files.opened(path) as stored:
        turned = stored.getexif().get(ORIENTATION, 1) in range(2, 9)
        upright = ImageOps.exif_transpose(stored) if turned else stored
        fits = [way for way in (stored, upright) if way.size == mask_size]
        both, stored_size = turned and len(fits) == 2, stored.size
        if fits:
            pixels = _resized(fits[0].convert("L" if channels == 1 else "RGB"), size, how, Image.Resampling.BILINEAR)
    if not fits:
        raise UserError(
            f"{mask}: is {mask_size[0]}x{mask_size[1]}, but its image is {stored_size[0]}x{stored_size[1]}; use one size for both"
        )
    if both:
        raise UserError(
            f"{path}: its EXIF tag turns it, and its mask does not tell whether it was drawn on the image before or after that; "
            "turn the pixels of image and mask to lie the same way, and remove the tag"
        )
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _stored_mask(path):
    """One label map as an image of Pillow's whose grey values are the labels."""
    from PIL import Image

    require_file(path)
    with (
        reading(path, f"is not a readable {', '.join(MASK_FORMATS)} mask", "save it in a lossless format"),
        Image.open(path, formats=MASK_FORMATS) as mask,
    ):
        if mask.mode not in ("L", "P"):
            raise UserError(
                f"{path}: has the mode {mask.mode}; give an 8-bit grey or palette image whose values are class numbers"
            )
        # A palette's colours are no classes. Grey of 2 or 4 bits, which Pillow stretches to 255, is read as it is stored.
        return Image.fromarray(np.asarray(mask) // (STRETCHED.get(_bits(path), 1) if mask.mode == "L" else 1))


def _bits(path) -> int:
    """Bits per pixel of a PNG file, by its header; 8 of any other."""
    with open(path, "rb") as file:
        head = file.read(25)
    return head[24] if head.startswith(b"\x89PNG") else 8


# ---------------------------------------------------------------------------------------------- drawn shapes
def drawn_shapes(config) -> Source:
    """Images and exact maps of ``procedural.shapes``; the same for one seed."""
    arrays = {}
    for split, number in (("train", config.drawn), ("test", config.drawn // TEST_PART)):
        rng = torch.Generator().manual_seed(seed_of("drawn-shapes", split, config.seed))
        images, maps = shapes.scenes_with_maps(number, config.height, config.width, rng)
        arrays[f"x_{split}"] = (images * 255).round().to(torch.uint8).numpy()
        arrays[f"y_{split}"] = maps.numpy()
    return Source(shapes.CLASSES, arrays, files="drawn here")
