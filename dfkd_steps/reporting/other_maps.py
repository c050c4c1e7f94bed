"""A finished segmentation student on other images, with label maps or without. Nothing is made again, nothing is written."""

import glob
from pathlib import Path

import numpy as np
import torch

from ..datasets import image_files, label_maps
from ..runtime import passes
from ..runtime.errors import UserError
from ..schemas.groups import Masks
from ..training import segmentation_metrics
from ..training.predict import to_float
from .decoded import Decoded

HEADS = {
    "images": ("images", "d"),
    "miou": ("mIoU %", ".2f"),
    "pixel_accuracy": ("pixel accuracy %", ".2f"),
    "agreement_miou": ("agreement mIoU %", ".2f"),
    "agreement_pixels": ("agreement pixels %", ".2f"),
    "kl": ("KL", ".4f"),
    "ms": ("ms per image", ".3f"),
}


def folder_of(source: Path) -> tuple[Path, bool]:
    """The folder that holds the images of ``source``, its part test/ where it has one, and whether it holds masks too."""
    folder = source / "test" if (source / "test").is_dir() else source
    return folder, (folder / "masks").is_dir()


def images_in(folder: Path, deep: bool = False) -> list[Path]:
    """The files of a folder whose names end as those of images do, sorted, hidden ones left out; none is opened.

    deep: those of the folders in it too, as data sets of the source ``folder`` have them.
    """
    from PIL import Image

    return image_files.below(folder, Image.registered_extensions(), deep)


def listed(source: Path) -> list[Path]:
    """The images of a folder, none of them opened. Raises UserError where it holds none, or one without a mask."""
    folder, masks = folder_of(source)
    folder = folder / "images" if (folder / "images").is_dir() else folder
    images = images_in(folder)
    if not images:
        raise UserError(f"{source}: contains no images; put images there, or folders images/ and masks/ with matching file names")
    if masks and (alone := [path for path in images if not list(folder.with_name("masks").glob(f"{glob.escape(path.stem)}.*"))]):
        raise UserError(f"{source}: {alone[0].name[:60]!r} has no mask in masks/; give a mask with the same name for each image")
    return images


def read_folder(source: Path, network, void: int, fit: str) -> tuple[np.ndarray | Decoded, np.ndarray | None]:
    """Images (N,C,H,W) uint8 of the size of a network, and maps (N,H,W) uint8 or None; as data sets of the source ``masks``."""
    channels, height, width = network.image_shape
    paths, (folder, masks) = listed(source), folder_of(source)
    if not masks:
        return Decoded(paths, network.image_shape, fit), None
    size = {"height": height, "width": width, "channels": channels, "fit": fit}
    config = Masks(path=str(folder), names=list(network.classes), void=void, **size)
    arrays = label_maps.masks(config, some=True).arrays  # they need not have every class
    return arrays["x_train"], arrays["y_train"]


def checked(source: Path, images, maps, classes, void: int):
    """Maps (N,H,W) uint8 with 255 = void, of an .npz or a data set; raises UserError where they do not fit the images."""
    if maps is None:
        return None
    if maps.shape != (len(images), *images.shape[2:]):
        raise UserError(f"{source}: labels have shape {maps.shape}, but images {images.shape}; give each image a map of its size")
    return label_maps.source(source, {"y_test": maps}, tuple(classes), void).arrays["y_test"]


def finite(name: str, logits):
    """The logits of a network, if all are finite; else UserError, which names it."""
    if not logits.isfinite().all():
        raise UserError(f"{name}: its logits on these images are not finite; give a network that was trained with a smaller lr")
    return logits


def figures(networks: dict, images: np.ndarray | Decoded, maps) -> dict[str, dict]:
    """Name of a network -> its figures. With maps mIoU, pixel accuracy and IoU of each class; where ``networks`` has a "teacher",
    how far the maps of each are the teacher's; in percent, KL in nats per pixel."""
    first = next(iter(networks.values()))
    counts = {name: segmentation_metrics.Counts(len(first.classes)) for name in networks}
    rows = passes.passed(images.shape[1:], len(first.classes))
    for start in range(0, len(images), rows):
        batch = to_float(torch.from_numpy(np.array(images[start : start + rows])))
        truth = None if maps is None else torch.from_numpy(np.array(maps[start : start + rows]))
        logits = {name: finite(name, net(batch).float()) for name, net in networks.items()}
        for name, answers in logits.items():
            counts[name].add(answers, logits.get("teacher", answers), truth)
    return {name: _figures(count, maps is not None, "teacher" in networks) for name, count in counts.items()}


def _figures(counts, labelled: bool, beside_teacher: bool) -> dict:
    measured = segmentation_metrics.measured(counts)
    values = {"images": counts.images}
    if labelled:
        values |= {name: measured[name] for name in ("miou", "pixel_accuracy", "per_class_iou")}
    if beside_teacher:
        values |= {name: measured[name] for name in ("agreement_miou", "agreement_pixels")} | {"kl": measured["kl_to_teacher"]}
    return values


def class_rows(pairs: list[tuple[str, dict]]) -> list[list[str]]:
    """IoU of each class by each network as rows of text, their heads first; none where there are no label maps."""
    if "per_class_iou" not in pairs[0][1]:
        return []
    each = zip(*(figures["per_class_iou"] for _, figures in pairs))
    cells = [["–" if value is None else f"{value:.2f}" for value in values] for values in each]
    return [["IoU %", *(name for name, _ in pairs)], *([str(name), *row] for name, row in zip(pairs[0][1]["classes"], cells))]
