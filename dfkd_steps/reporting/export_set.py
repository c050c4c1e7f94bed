"""The images of a transfer set as PNG files, for programs that read folders."""

import numpy as np
from PIL import Image

from ..runtime import progress
from ..runtime.errors import UserError
from ..storage.image_format import to_unit
from ..storage.transfer_set import TransferSet, softmax

TABLE = "labels.csv"


def write_png(path, folder) -> int:
    """Write NUMBER.png for each sample into a folder for each class, by the teacher's argmax; returns how many.

    Of segmentation: images/NUMBER.png and masks/NUMBER.png, as a data set of source ``masks`` has them.
    ``labels.csv`` in ``folder`` has file, class and the teacher's probability of it. Raises UserError where the folder holds
    anything, or the images have another number of channels than 1 or 3.
    """
    with TransferSet(path) as transfer:
        channels, classes = transfer.layout.image_shape[0], transfer.layout.num_classes
        if channels not in (1, 3):
            raise UserError(f"{path}: has images of {channels} channels, which PNG cannot store; read it with TransferSet")
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder}: already contains files; give a folder that is empty or does not exist")
        if transfer.layout.dense:
            return _write_masks(transfer, folder)
        names = transfer.metadata.get("classes") or [str(label) for label in range(classes)]
        # The number stands first, since a name may hold anything, and folders sort as classes do.
        width = len(str(classes - 1))
        folders = [
            f"{label:0{width}}-{''.join(c if c.isalnum() else '_' for c in str(name))[:40]}" for label, name in enumerate(names)
        ]
        rows = []
        for start, part in progress.bar(transfer.chunks("images", "logits"), desc="png", unit="chunk"):
            sure = softmax(part["logits"]).max(1)
            for place, (image, label) in enumerate(zip(part["images"], part["logits"].argmax(1))):
                file = folder / folders[label] / f"{start + place:07}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                _picture(image).save(file)
                rows.append(f"{file.relative_to(folder).as_posix()},{label},{sure[place]:.6f}\n")
    folder.joinpath(TABLE).write_text("file,class,probability\n" + "".join(rows))
    return len(rows)


def _write_masks(transfer, folder) -> int:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for start, part in progress.bar(transfer.chunks("images", "labels"), desc="png", unit="chunk"):
        for place, (image, mask) in enumerate(zip(part["images"], part["labels"])):
            _picture(image).save(folder / f"images/{start + place:07}.png")
            Image.fromarray(mask).save(folder / f"masks/{start + place:07}.png")
    return len(transfer)


def _picture(image: np.ndarray) -> Image.Image:
    """A stored image (C,H,W) of one channel or three."""
    pixels = np.rint(to_unit(image) * 255).astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
