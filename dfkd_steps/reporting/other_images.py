"""A finished student, or its exported files, on other images: labelled or not. Nothing is made again, nothing is written."""

from pathlib import Path

import numpy as np
import torch

from ..datasets import readers
from ..models.onnx_file import OnnxClassifier
from ..runtime import latency, memory
from ..runtime.errors import UserError, one_line
from ..storage import dataset_file, network_file
from ..training import metrics
from ..training.predict import to_float


def networks_of(path: Path) -> dict:
    """Name -> network (with classes and image_shape): a network's file, an ONNX file, or the ONNX files of a folder export/."""
    if path.is_dir():
        found = {one.name: OnnxClassifier(one) for one in sorted(path.glob("*.onnx"))}
        if not found:
            raise UserError(f"{path}: holds no .onnx file; give a student.safetensors, an .onnx file or a folder export/")
        return found
    if path.suffix == ".onnx":
        return {path.name: OnnxClassifier(path)}
    network = network_file.load_frozen(path)
    network.classes, network.image_shape = network.description.classes, network.description.image_shape
    return {path.name: network}


def teacher_of(path: Path) -> Path | None:
    """The teacher of a student under results/, by its path; None where there is none."""
    found = [folder / "teacher.safetensors" for folder in path.resolve().parents]
    return next((one for one in found if one.is_file()), None)


def read(source: Path, network) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (N,C,H,W) uint8 of the size of a network, and labels (N) or None.

    ``source``: a dataset.h5 (its test images), an .npz (x_test and y_test, or images and labels), or a folder: of folders
    named as the classes or in their order, or of images without labels. Raises UserError for what does not fit.
    """
    if network.image_shape is None or network.classes is None:
        raise UserError("images: the ONNX file does not say its image shape and classes; give one that dfkd exported")
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; give a folder of images, an .npz or a dataset.h5")
    images, labels = _folder(source, network) if source.is_dir() else _file(source)
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1:] != tuple(network.image_shape) and images.shape[-1] == network.image_shape[0]:
        images = images.transpose(0, 3, 1, 2)
    if images.dtype != np.uint8 or images.shape[1:] != tuple(network.image_shape) or not len(images):
        wanted = "x".join(map(str, network.image_shape))
        raise UserError(f"{source}: images are {images.dtype} of shape {images.shape}; give uint8 of N x {wanted}, one or more")
    if labels is not None and (labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= len(network.classes)):
        raise UserError(f"{source}: labels do not fit {len(images)} images of {len(network.classes)} classes; give 0 to K-1 each")
    return images, labels


def _file(source: Path):
    if source.suffix == ".h5":
        opened = dataset_file.open_dataset(source)
        return opened.arrays["x_test"], np.array(opened.arrays["y_test"])
    try:
        with np.load(source, allow_pickle=False) as file:
            names = [name for name in ("x_test", "images") if name in file]
            labels = [name for name in ("y_test", "labels") if name in file]
            if not names:
                raise UserError(f"{source}: has no array x_test or images; add one")
            return file[names[0]], file[labels[0]].astype(np.int64).ravel() if labels else None
    except UserError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{source}: is no .npz that can be read ({one_line(error)}); give one, a dataset.h5 or a folder"
        ) from None


def listed(source: Path, network) -> list[tuple[Path, int]]:
    """The images of a folder, and of each its class by the folder it lies in, -1 where there are no folders; none is opened.

    Raises UserError where the folders are not those of the network's classes, or hold no image.
    """
    from PIL import Image

    folders = sorted(one for one in source.iterdir() if one.is_dir() and not one.name.startswith("."))
    classes = [str(name) for name in network.classes]
    if folders and all(one.name in classes for one in folders):
        labels = {one: classes.index(one.name) for one in folders}
    elif folders and len(folders) != len(classes):
        raise UserError(
            f"{source}: has {len(folders)} folders, the student {len(classes)} classes; name each folder as a class "
            f"({', '.join(classes[:5])}, ...), or put images without labels into one folder"
        )
    else:
        labels = {one: place for place, one in enumerate(folders)}
    kinds = Image.registered_extensions()
    found = [
        (path, labels.get(folder, -1))
        for folder in folders or [source]
        for path in sorted(one for one in folder.iterdir() if one.is_file() and one.suffix.lower() in kinds)
    ]
    if not found:
        raise UserError(f"{source}: holds no image; put images, or a folder of images for each class, there")
    return found


def _folder(source: Path, network):
    found = listed(source, network)
    images = [readers.image(path, network.image_shape) for path, _ in found]
    labels = np.asarray([label for _, label in found])
    return np.stack(images), labels if labels[0] >= 0 else None


@torch.inference_mode()
def measure(path: Path, source: Path | None, teacher_path: Path | None) -> list[tuple[str, dict]]:
    """Name of a network and its figures on the images of ``source``; the teacher, where it is there, first.

    Labelled images give accuracies; all images give agreement with the teacher and KL to it. ``ms``: latency of one image.
    """
    networks = networks_of(path)
    teacher_path = teacher_path or teacher_of(path)
    teacher = network_file.load_frozen(teacher_path) if teacher_path else None
    first = next(iter(networks.values()))
    source = source or (teacher_path.parents[1] / "dataset.h5" if teacher_path else None)
    if source is None:
        raise UserError(f"{path}: lies under no results/, so its test images are not known; give --images FOLDER")
    images, labels = read(source, first)
    if teacher is not None and tuple(teacher.description.image_shape) != tuple(first.image_shape):
        raise UserError(f"{teacher_path}: takes images of another shape than {path}; give its own teacher")
    if labels is None and teacher is None:
        raise UserError(f"{source}: has no labels and there is no teacher to compare with; give --teacher FILE")
    rows = memory.passed(first.image_shape)
    batches = [torch.from_numpy(np.array(images[start : start + rows])) for start in range(0, len(images), rows)]
    if first(to_float(batches[0][:1])).ndim > 2:
        raise UserError(f"{path}: is for segmentation, of which images of yours are not measured; its mIoU is in metrics.json")
    all_networks = ({"teacher": teacher} if teacher else {}) | networks
    logits = {name: torch.cat([net(to_float(part)) for part in batches]).float() for name, net in all_networks.items()}
    told = None if labels is None else torch.from_numpy(labels)
    return [
        (name, _figures(own, logits.get("teacher"), told) | {"ms": latency.milliseconds(all_networks[name], first.image_shape)})
        for name, own in logits.items()
    ]


def _figures(logits, teacher, labels) -> dict:
    found: dict = {"images": len(logits)}
    if labels is not None:
        made = metrics.measure(logits, logits if teacher is None else teacher, labels)
        found |= {name: made[name] for name in ("top1", "top1_interval", "balanced_accuracy", "ece")}
    if teacher is not None:
        made = metrics.compare({"images": logits}, {"images": teacher})
        found |= {"agreement": made["probe_agreement"], "kl": made["probe_kl"]}
    return found


HEADS = {
    "images": ("images", "d"),
    "top1": ("top-1 %", ".2f"),
    "balanced_accuracy": ("balanced %", ".2f"),
    "ece": ("ECE", ".4f"),
    "agreement": ("agreement %", ".2f"),
    "kl": ("KL", ".4f"),
    "ms": ("ms an image", ".3f"),
}


def rows(found: list[tuple[str, dict]]) -> list[list[str]]:
    """The figures as rows of text, their heads first; of top-1 with its 95 % interval."""
    names = [name for name in HEADS if any(name in figures for _, figures in found)]
    lines = [["network", *(HEADS[name][0] for name in names)]]
    for network, figures in found:
        cells = [format(figures[name], HEADS[name][1]) if name in figures else "–" for name in names]
        if "top1_interval" in figures:
            low, high = figures["top1_interval"]
            cells[names.index("top1")] += f" ({low:.2f} to {high:.2f})"
        lines.append([network, *cells])
    return lines
