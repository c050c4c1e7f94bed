"""Which samples of a transfer set are kept, by the teacher's answers to them."""

import numpy as np

from ..models import answering_network
from ..runtime import memory, passes
from ..runtime.seeds import seed_of
from ..storage.image_format import to_unit
from ..storage.transfer_set import Writer, softmax
from ..training import maps

CHUNK = 1024  # samples that are read, drawn or pushed at once, at most: of large images fewer


def confidence(transfer, teacher=None, device=None) -> np.ndarray:
    """The teacher's largest probability for each sample (N); for segmentation mean over its pixels, asked again."""
    if transfer.layout.dense:
        rows = answered_at_once(transfer) or passes.passed_by(transfer.layout)
        parts = (part["images"] for _, part in transfer.chunks("images", rows=rows))
        return np.concatenate([maps.confidence(teacher, to_unit(part), device, rows) for part in parts])
    return np.concatenate([softmax(part["logits"]).max(1) for _, part in transfer.chunks("logits", rows=CHUNK)])


def likeliest(transfer, labels, number: int) -> np.ndarray:
    """For each of some classes (L) the samples with the highest teacher probability for it, best first: (L,number) rows."""
    best, best_rows = np.empty((len(labels), 0)), np.empty((len(labels), 0), np.int64)
    for start, part in transfer.chunks("logits", rows=CHUNK):
        probability = softmax(part["logits"])[:, labels].T
        rows = np.broadcast_to(np.arange(start, start + probability.shape[1]), probability.shape)
        best, best_rows = np.concatenate([best, probability], 1), np.concatenate([best_rows, rows], 1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :number]
        best, best_rows = np.take_along_axis(best, order, 1), np.take_along_axis(best_rows, order, 1)
    return best_rows


def quota(counts, config) -> int:
    """Samples per class: as asked, or the largest possible: N/K where the missing are drawn again, else the rarest class."""
    if config.per_class:
        return config.per_class
    if config.deficit == "resample":
        return max(1, int(counts.sum()) // len(counts))
    return int(counts[counts > 0].min())


def choose(labels, per_class: int, config, transfer, teacher, device) -> np.ndarray:
    """Sorted samples to keep as they are: all of a class, or ``per_class`` of it where it has more."""
    rng = np.random.default_rng(seed_of("balance", config.seed, "surplus"))
    rank = confidence(transfer, teacher, device) if config.surplus == "confident" else None
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) > per_class:
            if rank is None:
                members = rng.choice(members, per_class, replace=False)
            else:
                members = members[np.argsort(-rank[members], kind="stable")][:per_class]
        kept.append(members)
    return np.sort(np.concatenate(kept))


def drawn_at_once(transfer) -> int:
    """Samples that are moved together, with their floats."""
    return min(CHUNK, memory.drawn(transfer.layout.image_shape))


def answered_at_once(transfer) -> int:
    """Samples that the teacher is shown together; 0 = as many as memory allows. Statistics of a batch are those of all that was
    drawn together, whatever memory there is."""
    return drawn_at_once(transfer) if answering_network.needs_whole_batches(transfer.metadata) else 0


def copy(transfer, writer, chosen, weights=None) -> Writer:
    """Append the chosen samples (sorted) to the writer, a chunk at a time; returns it."""
    at_once = drawn_at_once(transfer)
    for start in range(0, len(chosen), at_once):
        rows = chosen[start : start + at_once]
        part = {name: transfer.read(name, rows) for name, _, _ in transfer.layout.fields()}
        if weights is not None:
            part["weights"] = weights[rows]
        writer.append(**part | {"source": rows})
    return writer
