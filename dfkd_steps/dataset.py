"""Step dataset: a data set as one file of uint8 images, labels, class names, mean and std.

python -m dfkd_steps.dataset results/<dataset>/dataset.h5
"""

import time

import numpy as np

from .datasets import readers
from .models.tasks import VOID
from .pipeline.job import run_step
from .runtime import progress
from .runtime.errors import UserError
from .runtime.seeds import seed_of
from .storage import atomic, dataset_file


def run(job):
    """Make dataset.h5."""
    started = time.monotonic()
    with atomic.exclusive(job.out, job.key) as partial:
        if partial is None:
            progress.say(f"{job.out}: already exists")
            return
        source = readers.read(job.config, job.out.parent)
        digest = source.sha256()
        progress.say(f"{job.out}: reads {source.files}, sha256 of images and labels {digest}")
        arrays, canaries = plant(job.config, prepare(job.config, source), len(source.classes))
        # Not where they were read from: a data set that is pinned gives equal bytes from whatever files it comes.
        provenance = job.provenance("cpu") | {"source_sha256": digest}
        dataset_file.write(partial, job.key, provenance, source.classes, arrays, source.keep, source.card, canaries)
        atomic.commit(partial, job.out)
    shape = "x".join(map(str, arrays["x_train"].shape[1:]))
    progress.say(
        f"{job.out}: {len(arrays['x_train'])} training and {len(arrays['x_test'])} test images of {shape}, "
        f"{len(source.classes)} classes, in {time.monotonic() - started:.1f} s"
    )


def prepare(config, source) -> dict[str, np.ndarray]:
    """The four arrays of a data set, split and cut down as its config says. ``source``: a ``readers.Source``."""
    arrays = source.arrays
    if source.card:
        return arrays
    if source.test_share:
        arrays = hold_out(arrays, source.test_share, _rng(config, "test"))
    if config.val:
        arrays = hold_out(arrays, config.val, _rng(config, "val"))
    for split, limit in (("train", config.train), ("test", config.test)):
        if limit:
            arrays = arrays | _keep(arrays, split, limit, _rng(config, split))
    for split in ("train", "test"):
        if not len(arrays[f"y_{split}"]):
            raise UserError(f"dataset: no {split} images are left; give more images, or another test_share or val")
        if arrays[f"y_{split}"].ndim > 1 and (arrays[f"y_{split}"] == VOID).all():
            raise UserError(
                f"dataset: all pixels of the {len(arrays[f'y_{split}'])} {split} masks are void; give more images, or another "
                "test_share, val or seed"
            )
    return arrays


def plant(config, arrays, classes: int):
    """The arrays with canaries among the training images, and what these are; (arrays, None) where the config has none.

    A canary is a training image with a wrong label, a stand-in for the most exposed samples (arXiv 2502.12976). Which images,
    with which labels, depends on the seed alone. ``shadow`` leaves out a random half of them, and its partner in the pair the
    other half: each canary is in one set of each pair.
    """
    if not config.canaries:
        return arrays, None
    images, labels = arrays["x_train"], arrays["y_train"]
    if labels.ndim > 1:
        raise UserError("dataset: canaries: these need one label per image, but the labels are maps; remove canaries")
    if config.canaries > len(labels) // 2:
        raise UserError(
            f"dataset: canaries: {config.canaries} is more than half of the {len(labels)} training images; give fewer"
        )
    rng = _rng(config, "canaries")
    rows = np.sort(rng.choice(len(labels), config.canaries, replace=False))
    wrong = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    out = np.zeros(len(rows), bool)
    if config.shadow:
        pair, second = divmod(config.shadow - 1, 2)
        out[_rng(config, f"shadow {pair}").permutation(len(rows))[: len(rows) // 2]] = True
        out = ~out if second else out
    planted = {"rows": rows.tolist(), "labels": wrong.tolist(), "out": out.tolist()}
    planted["positions"] = (rows - np.searchsorted(rows[out], rows)).tolist()
    labels = labels.copy()
    labels[rows] = wrong
    kept = np.setdiff1d(np.arange(len(labels)), rows[out])
    return arrays | {"x_train": images[kept], "y_train": labels[kept]}, planted


def _rng(config, purpose):
    return np.random.default_rng(seed_of("dataset", purpose, config.seed))


def hold_out(arrays, share: float, rng) -> dict[str, np.ndarray]:
    """x_train, y_train -> a share of each class as x_test, y_test, the rest as x_train, y_train; both in random order.

    A class of two or more images is in both parts; one of a single image stays in training.
    """
    labels = strata(arrays["y_train"])
    counts = np.bincount(labels)
    sizes = np.minimum(np.maximum(np.rint(share * counts).astype(int), 1), np.maximum(counts - 1, 0))
    test, train = _draw(labels, sizes, rng)
    images = arrays["x_train"]
    labels = arrays["y_train"]
    return {"x_train": images[train], "y_train": labels[train], "x_test": images[test], "y_test": labels[test]}


def strata(labels: np.ndarray) -> np.ndarray:
    """What random parts are balanced by (N): the classes; one for all images where labels are maps."""
    return labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)


def _keep(arrays, split, limit, rng):
    images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
    if limit > len(labels):
        raise UserError(
            f"dataset: {split}: {limit} is above {len(labels)}, the number of {split} images; give fewer, or 0 for all"
        )
    rows, _ = _draw(strata(labels), balanced_sizes(np.bincount(strata(labels)), limit), rng)
    return {f"x_{split}": images[rows], f"y_{split}": labels[rows]}


def balanced_sizes(counts: np.ndarray, total: int) -> np.ndarray:
    """How many to take of each class, ``total`` in all (at most counts.sum()): as equal as the counts allow."""
    sizes = np.zeros_like(counts)
    while (left := total - sizes.sum()) > 0:
        room = np.flatnonzero(sizes < counts)
        # All classes with room get the same; the last few of the total go to the first classes, one each.
        level = left // len(room)
        sizes[room] = np.minimum(sizes[room] + level, counts[room]) if level else sizes[room] + (np.arange(len(room)) < left)
    return sizes


def _draw(labels, sizes, rng):
    """Indices of a random ``sizes[k]`` samples of each class k, and of the others; each in random order."""
    order = rng.permutation(len(labels))
    ranks = np.empty(len(labels), int)
    for k in range(len(sizes)):
        rows = order[labels[order] == k]
        ranks[rows] = np.arange(len(rows))
    taken = ranks < sizes[labels]
    # Shuffled again: in ``order`` itself, the classes that are drawn up late would crowd at the end.
    return rng.permutation(np.flatnonzero(taken)), rng.permutation(np.flatnonzero(~taken))


if __name__ == "__main__":
    run_step("dataset", run, uses_gpu=False)
