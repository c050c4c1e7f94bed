"""The card of a data set: what its images are, without any (``source: card``)."""

from pathlib import Path

import numpy as np

from ..models import tasks
from ..runtime.errors import UserError, one_line, require_file
from .array_files import ARRAYS, Source


def read(config) -> Source:
    """No image; class names as the card has them, of the classes that are kept, or their numbers."""
    names, keep = tuple(config.names) or names_in(config.names_file), tuple(config.keep)
    count = len(keep) or config.classes or len(names)
    if keep and len(names) != count and len(names) > max(keep):
        names = tuple(names[number] for number in keep)
    of_all = keep and config.classes > max(keep)
    if (names and len(names) != count) or (config.classes not in (0, count) and not of_all):
        said = f"{len(names)} names" if names and len(names) != count else f"classes: {config.classes}"
        raise UserError(f"dataset: card: has {said}, but {count} classes{' in keep' if keep else ''}; give one name per class")
    if count < 2:
        raise UserError("dataset: card: has only one class; give at least two")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"dataset: card: {twice[0]!r} names two classes; give each its own name")
    images = np.empty((0, config.channels, config.height, config.width or config.height), np.uint8)
    dense = config.task == tasks.SEGMENTATION
    labels = np.empty((0, *images.shape[2:]), np.uint8) if dense else np.empty(0, np.int64)
    arrays = dict(zip(ARRAYS, (images, labels, images, labels)))
    card = {"mean": config.mean, "std": config.std}
    names = names or tuple(map(str, keep or range(count)))
    return Source(names, arrays, files="a card, which has no images", keep=keep, card=card)


def names_in(file: str) -> tuple[str, ...]:
    """The lines of a text file that are not empty; of no file none. Raises UserError where it cannot be read."""
    if not file:
        return ()
    require_file(file)  # a pipe would be waited for
    try:
        lines = Path(file).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text ({one_line(error, 120)}); give a file with one name per line") from None
    return tuple(line.strip() for line in lines if line.strip())
