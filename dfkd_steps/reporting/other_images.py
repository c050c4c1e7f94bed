"""A finished student, or its exported files, on other images: labelled or not. Nothing is made again, nothing is written."""

import contextlib
import os
import zipfile
from pathlib import Path

import numpy as np
import torch

from ..datasets import array_files, image_files
from ..models.onnx_file import OnnxClassifier
from ..models.tasks import VOID
from ..pipeline import graph, params, spec
from ..runtime import latency, memory, progress
from ..runtime.errors import UserError, first_of, one_line, reading, require_file, similar
from ..storage import dataset_file, exported, network_file
from ..training import metrics
from ..training.predict import to_float
from . import other_maps
from .decoded import Decoded


def networks_of(path: Path) -> dict:
    """Name -> network (with classes and image_shape): a network's file, an ONNX file, or the ONNX files of a folder export/."""
    if path.is_dir():
        networks = {file.name: OnnxClassifier(file) for file in sorted(path.glob("*.onnx"))}
        if not networks:
            raise UserError(f"{path}: contains no .onnx file; give a student.safetensors, an .onnx file or a folder export/")
        if len({(network.image_shape, network.classes) for network in networks.values()}) > 1:
            raise UserError(
                f"{path}: its .onnx files take images of different shapes or have different classes; give one of the files"
            )
        return networks
    if path.suffix == ".onnx":
        return {path.name: OnnxClassifier(path)}
    network = network_file.load_frozen(path)
    network.classes, network.image_shape = network.description.classes, network.description.image_shape
    return {path.name: network}


def teacher_of(path: Path) -> Path | None:
    """The teacher of a student under results/, by its path; None where there is none."""
    files = [folder / "teacher.safetensors" for folder in path.resolve().parents]
    return next((file for file in files if file.is_file()), None)


def place_of(path: Path) -> Path:
    """Where a student, or the folder of its exported files, lies."""
    place = Path(os.path.abspath(path))  # links stay: results/ itself may be one
    return place.parent if place.parent.name == exported.FOLDER else place


def dataset_of(path: Path, teacher: Path | None) -> Path | None:
    """The data set of a student: above its ``teacher``, or where that file is gone by the path under results/; None elsewhere."""
    if teacher:
        return teacher.parent.parent / "dataset.h5"
    with contextlib.suppress(UserError):
        place = place_of(path)
        return graph.path_of("dataset", spec.of_path(place), spec.root_of(place))
    return None


def settings_of(path: Path, folder: bool, maps: bool) -> tuple[str, int, str]:
    """What becomes of images of another form in a ``folder``, 'crop' or 'squash'; the label of void in ``maps``; and what to say
    of them, '' where it is nothing.

    As in the data set that a path under results/ names, so that the figures are those of metrics.json; 'crop' and 255 where it
    names none, or one that has no such fields or is not in params/ beside results/.
    """
    place = place_of(path)
    try:
        name, root = spec.of_path(place)["dataset"], spec.root_of(place)
    except UserError:
        return "crop", VOID, ""
    try:
        config = params.load("dataset", name, root.parent / params.PARAMS)
    except UserError as error:
        why = f"images are cropped, because the data set of its path cannot be read ({one_line(error, 160)})"
        return "crop", VOID, why if folder else ""
    fit = getattr(config, "fit", "crop") if folder else "crop"
    void = getattr(config, "void", VOID) if maps else VOID
    remarks = [f"images are not cropped, as the data set {name} has fit: {fit}"] if fit != "crop" else []
    remarks += [f"the label {void} in masks is void, as in the data set {name}"] if void != VOID else []
    return fit, void, "; ".join(remarks)


def is_dense(path: Path, network) -> bool:
    """Does a network, of the file or folder ``path``, give a map for an image?"""
    if network.image_shape is None or network.classes is None:
        raise UserError(
            f"{path}: its metadata do not state classes and image_shape as JSON lists; give an ONNX file that dfkd exported"
        )
    return network(torch.zeros(1, *network.image_shape)).ndim > 2


def read(
    source: Path, network, dense: bool = False, void: int = VOID, fit: str = "crop"
) -> tuple[np.ndarray | Decoded, np.ndarray | None]:
    """Images (N,C,H,W) uint8 of the size of a network, and labels (N) or None; for segmentation maps (N,H,W), 255 = void.

    The images of a folder are decoded when they are read, unless there are masks beside them.

    ``source``: a dataset.h5 (its test images), an .npz (x_test and y_test, or images and labels), or a folder: of folders
    named as the classes or, where no name matches, in their order; of images without labels; for segmentation of images/ and
    masks/. Raises UserError for what does not fit. void: a further label in maps that is of no class. fit: what
    becomes of images of another form in folders, as ``readers.image`` takes it.
    """
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; give a folder of images, an .npz or a dataset.h5")
    if source.is_dir():
        images, labels = other_maps.read_folder(source, network, void, fit) if dense else _folder(source, network, fit)
    else:
        images, labels = _file(source)
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1:] != tuple(network.image_shape) and images.shape[-1] == network.image_shape[0]:
        images = images.transpose(0, 3, 1, 2)
    if images.dtype != np.uint8 or images.shape[1:] != tuple(network.image_shape) or not len(images):
        shape = "x".join(map(str, network.image_shape))
        raise UserError(
            f"{source}: images are {images.dtype} of shape {images.shape}; give one or more uint8 images, N x {shape}"
        )
    if dense:
        # Maps of a folder or a data set have 255 for void by now, and the classes behind it are moved together.
        void = VOID if source.is_dir() or source.suffix == ".h5" else void
        return images, other_maps.checked(source, images, labels, network.classes, void)
    labels = None if labels is None else labels.astype(np.int64).ravel()
    if labels is not None and (labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= len(network.classes)):
        raise UserError(
            f"{source}: labels do not fit {len(images)} images of {len(network.classes)} classes; give "
            "one label, 0 to K-1, per image"
        )
    return images, labels


def _file(source: Path):
    require_file(source)  # a pipe would be waited for
    if source.suffix == ".h5":
        opened = dataset_file.open_dataset(source)
        if not opened.has_images:
            raise UserError(f"{source}: is a card and has no images; give --images, a folder of images or an .npz")
        return opened.arrays["x_test"], np.array(opened.arrays["y_test"])
    remedy = "give an .npz file (numpy.savez), a dataset.h5 or a folder of images"
    with reading(source, "is damaged or not an .npz file", remedy), zipfile.ZipFile(source) as archive:
        there = {name.removesuffix(".npy") for name in archive.namelist()}
        images, labels = (
            next((array_files.read_member(archive, source, name) for name in names if name in there), None)
            for names in (("x_test", "images"), ("y_test", "labels"))
        )
    if images is None:
        raise UserError(f"{source}: has no array x_test or images; add one")
    if labels is not None and labels.dtype.kind not in "iu":
        raise UserError(f"{source}: labels are {labels.dtype}; give the numbers of the classes as integers")
    return images, labels


def listed(source: Path, network) -> list[tuple[Path, int]]:
    """The images of a folder, and of each its class by the folder it lies in, -1 where there are no folders; none is opened.

    Raises UserError where the folders are not those of the network's classes, or hold no image.
    """
    there = {folder.name: folder for folder in source.iterdir() if folder.is_dir() and not folder.name.startswith(".")}
    folders = [there[name] for name in image_files.in_order(there)]
    classes = [str(name) for name in network.classes]
    unknown = [folder.name for folder in folders if folder.name not in classes]
    if folders and not unknown:
        labels = {folder: classes.index(folder.name) for folder in folders}
    elif len(unknown) < len(folders):  # by their order, one misspelt name would shift the labels of other folders
        free = similar(unknown[0], [name for name in classes if name not in there])
        without = f" (classes without a folder: {free})" if free else ""
        raise UserError(
            f"{source}: folder {unknown[0]!r} matches no class; rename it to the name of its class or remove it{without}"
        )
    elif folders and len(folders) != len(classes):
        raise UserError(
            f"{source}: has {len(folders)} folders, but the student has {len(classes)} classes; name each folder after a class "
            f"({first_of(classes, 5)}), or put images without labels into one folder"
        )
    else:
        labels = {folder: place for place, folder in enumerate(folders)}
        if folders:
            pairs = [f"{folder.name!r} = {name!r}" for folder, name in zip(folders, classes)]
            order = first_of(pairs, 3)
            progress.say(f"{source}: no folder has the name of a class; labels follow the order of the folders ({order})")
    files = [(path, labels[folder]) for folder in folders for path in other_maps.images_in(folder, deep=True)]
    files = files if folders else [(path, -1) for path in other_maps.images_in(source)]
    if not files:
        raise UserError(f"{source}: contains no images; put images, or one folder of images per class, there")
    return files


def _folder(source: Path, network, fit: str):
    files = listed(source, network)
    labels = np.asarray([label for _, label in files])
    return Decoded([path for path, _ in files], network.image_shape, fit), labels if labels[0] >= 0 else None


@torch.inference_mode()
def measure(path: Path, source: Path | None, teacher_path: Path | None, void: int | None = None) -> list[tuple[str, dict]]:
    """Name of a network and its figures on the images of ``source``; the teacher, where it is there, first.

    Labelled images give accuracies, for segmentation IoU; all images give agreement with the teacher and KL to it. ``ms``:
    latency of one image; "classes": their names, where IoU is given.
    """
    networks = networks_of(path)
    beside = teacher_of(path)
    teacher_path = teacher_path or beside
    teacher = network_file.load_frozen(teacher_path) if teacher_path else None
    first = next(iter(networks.values()))
    if source is None:
        source = dataset_of(path, beside)
        if source is None or not source.exists():
            why = f"there is no {source}" if source else "it lies in no path under results/"
            raise UserError(f"{path}: its test images are not known, because {why}; give --images FOLDER")
    dense = is_dense(path, first)
    with_void = dense and void is None and source.suffix != ".h5" and (not source.is_dir() or other_maps.folder_of(source)[1])
    fit, usual, remark = settings_of(path, source.is_dir(), with_void)
    images, labels = read(source, first, dense, usual if void is None else void, fit)
    if teacher is not None:
        described = teacher.description
        if tuple(described.image_shape) != tuple(first.image_shape) or described.dense != dense:
            raise UserError(
                f"{teacher_path}: takes images of a different shape than {path}, or is for a different task; give its own teacher"
            )
        if described.num_classes != len(first.classes):
            have, expected = described.num_classes, len(first.classes)
            raise UserError(f"{teacher_path}: has {have} classes, {path} has {expected}; give its own teacher")
        teacher.classes, teacher.image_shape = described.classes, described.image_shape
    if labels is None and teacher is None:
        raise UserError(f"{source}: has no labels and there is no teacher to compare with; give --teacher FILE")
    all_networks = ({"teacher": teacher} if teacher else {}) | networks
    measured = other_maps.figures(all_networks, images, labels) if dense else figures(all_networks, images, labels)
    if remark:  # now: images that cannot be read are one line
        progress.say(f"{path}: {remark}")
    return [
        (name, values | {"ms": latency.milliseconds(all_networks[name], first.image_shape), "classes": first.classes})
        for name, values in measured.items()
    ]


def figures(networks: dict, images: np.ndarray | Decoded, labels) -> dict[str, dict]:
    """Name of a classifier -> its figures, a batch of images after the other."""
    rows, parts = memory.passed(images.shape[1:]), {name: [] for name in networks}
    for start in range(0, len(images), rows):  # not all at once: a data set is mapped, and may be larger than the memory
        batch = to_float(torch.from_numpy(np.array(images[start : start + rows])))
        for name, net in networks.items():
            parts[name].append(other_maps.finite(name, net(batch).float()))
    logits = {name: torch.cat(batches) for name, batches in parts.items()}
    targets = None if labels is None else torch.from_numpy(labels)
    return {name: _figures(answers, logits.get("teacher"), targets) for name, answers in logits.items()}


def _figures(logits, teacher, labels) -> dict:
    values: dict = {"images": len(logits)}
    if labels is not None:
        measured = metrics.measure(logits, logits if teacher is None else teacher, labels)
        values |= {name: measured[name] for name in ("top1", "top1_interval", "balanced_accuracy", "ece")}
    if teacher is not None:
        compared = metrics.compare({"images": logits}, {"images": teacher})
        values |= {"agreement": compared["probe_agreement"], "kl": compared["probe_kl"]}
    return values


HEADS = {
    "images": ("images", "d"),
    "top1": ("top-1 %", ".2f"),
    "balanced_accuracy": ("balanced %", ".2f"),
    "ece": ("ECE", ".4f"),
    "agreement": ("agreement %", ".2f"),
    "kl": ("KL", ".4f"),
    "ms": ("ms per image", ".3f"),
}


def rows(measured: list[tuple[str, dict]]) -> list[list[str]]:
    """The figures as rows of text, their heads first; of top-1 with its 95 % interval."""
    heads = other_maps.HEADS if any({"miou", "agreement_miou"} & values.keys() for _, values in measured) else HEADS
    names = [name for name in heads if any(name in values for _, values in measured)]
    lines = [["network", *(heads[name][0] for name in names)]]
    for network, values in measured:
        cells = [format(values[name], heads[name][1]) if name in values else "–" for name in names]
        if "top1_interval" in values:
            low, high = values["top1_interval"]
            cells[names.index("top1")] += f" ({low:.2f} to {high:.2f})"
        lines.append([network, *cells])
    return lines
