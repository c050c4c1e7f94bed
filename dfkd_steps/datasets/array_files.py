"""Data sets in files of whole arrays, .npz and IDX; and what every source shares: its form and its checks.

Sizes are read from headers and checked before anything is allocated, and nothing is unpickled.
"""

import functools
import gzip
import hashlib
import itertools
import math
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..runtime import disk, memory
from ..runtime.errors import UserError, reading

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MAX_HEADER, LARGE, MAX_RATIO = 10_000, 1 << 26, 300  # bytes; bytes; unpacked by packed
NAMED = 12  # members of an archive that an error line names


@dataclass(frozen=True)
class Source:
    """Class names; x_train, y_train and, where the source has them, x_test, y_test; else the share to be held out.

    Images (N,C,H,W) uint8, labels (N) int64. ``files``: where they were read from, for the log. ``keep``: the teacher's classes
    that these are, () = all of them. ``card``: what a card, which has no images, says of them (mean, std).
    """

    classes: tuple[str, ...]
    arrays: dict[str, np.ndarray]
    test_share: float = 0.0
    files: str = ""
    keep: tuple[int, ...] = ()
    card: dict | None = None

    def sha256(self) -> str:
        """sha256 of all images and labels, in the order of ``ARRAYS``."""
        digest = hashlib.sha256()
        for name in ARRAYS:
            if name in self.arrays:
                for piece in disk.pieces(self.arrays[name]):
                    digest.update(np.ascontiguousarray(piece))
        return digest.hexdigest()


# ---------------------------------------------------------------------------------------------- checks
def pin(config, where, files, names=()):
    """Compare the config's sha256, if it has one, with that of the files, read one after the other, each after its name."""
    if not config.sha256:
        return
    digest = hashlib.sha256()
    for path, name in itertools.zip_longest(files, names):
        digest.update(f"{name}\0".encode() if name else b"")
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    compare(config, where, digest.hexdigest())


def compare(config, where, digest: str):
    """Raise UserError where a digest is not the config's sha256."""
    if digest != config.sha256.lower():
        raise UserError(f"{where}: sha256 is {digest}, expected {config.sha256}; get the right data or correct sha256")


def fits(where, shape, packed: int | None = None):
    """Refuse an array of bytes that this machine cannot hold, before it is allocated; or that grows as no images do out of the
    ``packed`` bytes that a file has of it."""
    have, need = memory.here(), math.prod(shape)
    if packed is not None and need > LARGE and need > MAX_RATIO * packed:
        raise UserError(
            f"{where}: unpacks {need // max(1, packed)}-fold to {need / 1e9:.1f} GB, which images never do; write it uncompressed"
        )
    if need > have:
        raise UserError(
            f"{where}: shape {tuple(shape)} takes {need / 1e9:.0f} GB, and there are {have / 1e9:.0f}; give fewer images"
        )


def _numbered(where, arrays) -> tuple[str, ...]:
    """Names '0'..'K-1' for labels that are numbered without gaps; images and labels must go together."""
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if len(images) != len(labels):
            raise UserError(
                f"{where}: {len(images)} images in x_{split}, {len(labels)} labels in y_{split}; give one label per image"
            )
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        train, test = ("x".join(map(str, arrays[name].shape[1:])) for name in ("x_train", "x_test"))
        raise UserError(f"{where}: images are {train} in x_train, {test} in x_test (C x H x W); use one shape for both")
    classes = np.unique(arrays["y_train"])
    if not np.array_equal(classes, np.arange(len(classes))):
        gap = next(i for i, value in enumerate(classes) if i != value)
        raise UserError(
            f"{where}: labels in y_train are {classes[0]} to {classes[-1]}, {gap} is missing; number the classes from 0 on"
        )
    if len(classes) < 2:
        raise UserError(f"{where}: y_train has only one class; give at least two")
    if foreign := sorted(set(np.unique(arrays["y_test"]).tolist()) - set(classes.tolist())):
        raise UserError(f"{where}: y_test has the class {foreign[0]}, but y_train does not; give training images of every class")
    return tuple(map(str, range(len(classes))))


# ---------------------------------------------------------------------------------------------- npz
def npz(config) -> Source:
    """A data set in an .npz file; every fault it can have is one line."""
    path, arrays = read_archive(config)
    classes = _numbered(path, arrays)
    if config.names and len(config.names) != len(classes):
        raise UserError(f"{path}: has {len(classes)} classes, but names has {len(config.names)}; give one name per class")
    arrays = {name: value if name[0] == "x" else value.astype(np.int64) for name, value in arrays.items()}
    return Source(
        tuple(config.names) or tuple(map(str, config.keep)) or classes, arrays, files=str(path), keep=kept(config, classes)
    )


def kept(config, classes) -> tuple[int, ...]:
    """The teacher's classes that those of images are; UserError where there is not one for each."""
    if config.keep and len(config.keep) != len(classes):
        raise UserError(
            f"{config.path}: has {len(classes)} classes, but keep has {len(config.keep)}; give the teacher's class for each"
        )
    return tuple(config.keep)


def read_archive(config, maps=False) -> tuple[Path, dict[str, np.ndarray]]:
    """The path of an .npz file, and its arrays, images as (N,C,H,W); ``maps``: labels are label maps."""
    path = Path(config.path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; put it there or correct path in the YAML file")
    pin(config, path, [path])
    with (
        reading(path, "is damaged or not an .npz file", "write it again with numpy.savez"),
        zipfile.ZipFile(path) as archive,
    ):
        arrays = {name: _read_npz(archive, path, name, maps) for name in ARRAYS}
    for name in ("x_train", "x_test"):
        images = arrays[name]
        arrays[name] = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return path, arrays


@functools.cache
def images_in(path: Path) -> tuple[int, ...]:
    """Number and shape (N,C,H,W) of the training images in an .npz file, by the head of the array alone; () where it cannot be
    read, which is for whoever reads the images to say."""
    try:
        with zipfile.ZipFile(path) as archive:
            shape = _head(archive, path, "x_train")[0]
    except (UserError, OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ()
    number, height, width, channels = (*shape, 1)[:4] if len(shape) in (3, 4) else (0, 0, 0, 0)
    return (number, channels, height, width) if channels in (1, 3) and number * height * width else ()


def _read_npz(archive, path, name, maps=False) -> np.ndarray:
    """An array of a data set in an archive; a missing or unfit one is refused."""
    if f"{name}.npy" not in archive.namelist():
        there = ", ".join(repr(key)[1:-1] for key in archive.namelist()[:NAMED]) or "no arrays"
        alone = f"; to evaluate a finished student on test images only: dfkd evaluate STUDENT --images {path}"
        raise UserError(
            f"{path}: {name} is missing, it contains {there}; save {', '.join(ARRAYS)} with numpy.savez"
            + (alone if name == "x_train" and "x_test.npy" in archive.namelist() else "")
        )
    return read_member(archive, path, name, lambda shape, dtype: _require_form(path, name, shape, dtype, maps))


def _require_form(path, name, shape, dtype, maps):
    """Refuse an array that is not of the form of images or labels of a data set."""
    if name[0] == "x":
        if dtype != np.uint8:
            raise UserError(f"{path}: {name} is {dtype}, expected uint8 (0 to 255); convert it")
        if 0 in shape[:1]:
            raise UserError(
                f"{path}: {name} contains no images; describe a task without images by a card (source: card), which needs no file"
            )
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or min(shape) < 1:
            raise UserError(f"{path}: {name} has shape {shape}; give N,H,W or N,H,W,1 or N,H,W,3")
    elif dtype.kind not in "iu":
        raise UserError(f"{path}: {name} is {dtype}, expected integers; convert it, e.g. .astype('int64')")
    elif maps and (len(shape) != 3 or min(shape) < 1):
        raise UserError(f"{path}: {name} has shape {shape}; give label maps N,H,W, or leave out task: segmentation")
    elif not maps and (len(shape) != 1 or min(shape) < 1):
        remedy = "; or set task: segmentation, if they are label maps" if len(shape) == 3 else ""
        raise UserError(f"{path}: {name} has shape {shape}; give N labels, one per image{remedy}")


def read_member(archive, path, name, check=lambda shape, dtype: None) -> np.ndarray:
    """An array of an .npz archive. An unfit one is refused by its header alone, which may lie about the size.

    check: called with shape and dtype before anything is allocated; raises UserError.
    """
    shape, dtype, content = _head(archive, path, name)
    check(shape, dtype)
    if math.prod(shape) * dtype.itemsize != content:
        raise UserError(f"{path}: {name} claims shape {shape} but holds {content} bytes; write the file again with numpy.savez")
    entry = archive.getinfo(f"{name}.npy")
    fits(f"{path}: {name}", (*shape, dtype.itemsize), entry.compress_size)
    with archive.open(entry) as member:
        return np.lib.format.read_array(member, allow_pickle=False, max_header_size=MAX_HEADER)


def _head(archive, path, name) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape and dtype that an array of an archive claims, and the bytes that it holds."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # bzip2 and LZMA unpack a piece whole, of any size
        raise UserError(f"{path}: {name} is compressed in a way that numpy never uses; write it again with numpy.savez")
    with archive.open(entry) as member:
        start = member.read(12)
    length = int.from_bytes(start[8 : 10 if start[6:7] == b"\1" else 12], "little")
    if length > MAX_HEADER:  # numpy looks at the length only after it has read it all
        raise UserError(f"{path}: {name} has a header of {length} bytes, more than {MAX_HEADER}; write it again with numpy.savez")
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(member)
        content = entry.file_size - member.tell()
    if dtype.hasobject:
        raise UserError(f"{path}: {name} holds Python objects, which are not read (they can run code); give plain numbers")
    return shape, dtype, content


# ---------------------------------------------------------------------------------------------- idx
def idx(config) -> Source:
    """A data set in the four IDX files of MNIST, gzipped or not."""
    files = [_idx_file(Path(config.path), name) for name in IDX_FILES]
    pin(config, config.path, files)
    arrays = dict(zip(ARRAYS, (_read_idx(path, 3 if "images" in path.name else 1) for path in files)))
    arrays = {name: value[:, None] if name[0] == "x" else value.astype(np.int64) for name, value in arrays.items()}
    return Source(_numbered(config.path, arrays), arrays, files=config.path)


def _idx_file(folder, name) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UserError(f"{folder}: no file {name} or {name}.gz; put the four IDX files there or correct path in the YAML file")


def _read_idx(path, dimensions) -> np.ndarray:
    """uint8 array of an IDX file: magic 0 0 8 D, D big-endian sizes, the bytes."""
    unpacked = gzip.open if path.suffix == ".gz" else open
    with reading(path, "cannot be read", "get it again"), unpacked(path, "rb") as file:
        head = file.read(4 + 4 * dimensions)
        if head[:4] != bytes((0, 0, 8, dimensions)) or len(head) < 4 + 4 * dimensions:
            raise UserError(
                f"{path}: starts with {head[:4].hex() or 'nothing'}, expected 000008{dimensions:02x}; give the right IDX file"
            )
        shape = struct.unpack(f">{dimensions}I", head[4:])
        if min(shape) < 1:
            raise UserError(f"{path}: its header gives the shape {shape}; it must have at least one image")
        fits(path, shape, path.stat().st_size)
        content = file.read(math.prod(shape) + 1)
    if len(content) != math.prod(shape):
        more = "more" if len(content) > math.prod(shape) else len(content)
        raise UserError(f"{path}: shape {shape} takes {math.prod(shape)} bytes, but the file has {more}; get it again")
    return np.frombuffer(content, np.uint8).reshape(shape)
