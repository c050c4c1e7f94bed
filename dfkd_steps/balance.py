"""Step: a transfer set in which the teacher sees its classes as often as asked (arXiv 2011.09113).

Streams: what is held in memory beside one chunk is a few numbers a sample, never the images.
"""

import functools
import time
from dataclasses import replace

import numpy as np

from .balancing import segmentation
from .balancing.resampling import Held, Members, Resampler, pushed_at_most
from .balancing.selection import answered_at_once, choose, confidence, copy, drawn_at_once, quota
from .models import answering_network
from .pipeline.job import Job, run_step
from .runtime import progress
from .runtime.device import select_device
from .runtime.errors import first_of
from .runtime.seeds import seed_of
from .storage import atomic, network_file
from .storage.image_format import to_unit
from .storage.transfer_set import TransferSet, Writer, class_counts
from .training import maps

MOST_SPELLED = 10  # classes that a line of the log names


# A mode starts a writer with the number of samples it needs at most, fills it, and returns it and what to tell.
def equal(config, teacher, transfer, start, device) -> tuple[Writer, dict]:
    """The same number for each class; tells per_class, resampled and pushed samples."""
    if transfer.layout.dense:
        return equal_images(config, teacher, transfer, start, device)
    labels = transfer.read("labels")
    counts = np.bincount(labels, minlength=transfer.layout.num_classes)
    per_class = quota(counts, config)
    chosen, missing = choose(labels, per_class, config, transfer, teacher, device), np.maximum(per_class - counts, 0)
    if config.deficit == "short":
        missing = np.minimum(missing, pushed_at_most(transfer)) * (counts == 0)
    writer = copy(transfer, start(len(chosen) + int(missing.sum())), chosen)
    stats = {"per_class": per_class, "resampled": 0, "pushed": 0}
    resampler = Resampler(config, teacher, transfer, device)
    never = np.flatnonzero(counts == 0) if config.push_steps else []
    pushed = resampler.pushed(never, min(per_class, pushed_at_most(transfer)))
    for label in progress.bar(np.flatnonzero(counts < per_class), desc="balance", unit="class"):
        label, missing = int(label), int(per_class - counts[label])
        if config.deficit == "short" and counts[label]:
            continue
        if counts[label]:
            pool = Members(transfer, np.flatnonzero(labels == label))
        else:
            stored, logits, rows = next(pushed, ((), (), ()))
            if not len(stored):
                continue
            writer.append(**resampler.fields(stored, logits, rows, label))
            stats["pushed"] += len(stored)
            pool, missing = Held(stored, logits, rows), missing - len(stored)
        if config.deficit == "resample":
            for fields in resampler.draw(pool, label, missing):
                writer.append(**fields)
                stats["resampled"] += len(fields["labels"])
    return writer, stats


def equal_images(config, teacher, transfer, start, device) -> tuple[Writer, dict]:
    """For segmentation: as many images for each class that stands out in them (``segmentation.dominant``); of a class
    with too few, images are drawn again and mirrored, and the teacher is asked about those: kept are those in which it sees the
    class. No image is pushed to a class.

    Tells per_class, resampled, classes that stand out nowhere.
    """
    labels = segmentation.dominant(segmentation.shares_of(transfer))
    counts = np.bincount(labels, minlength=transfer.layout.num_classes)
    # Of the classes that there are: nothing stands for one that no image shows.
    per_class = quota(counts[counts > 0], config)
    chosen = choose(labels, per_class, config, transfer, teacher, device)
    missing = np.maximum(per_class - counts, 0) * (counts > 0) * (config.deficit == "resample")
    writer = copy(transfer, start(len(chosen) + int(missing.sum())), chosen)
    at_once, resampled = drawn_at_once(transfer), 0
    for label in np.flatnonzero(missing):
        rng = np.random.default_rng(seed_of("balance", config.seed, "deficit", int(label)))
        drawn = rng.choice(np.flatnonzero(labels == label), missing[label])
        for begin in range(0, len(drawn), at_once):
            rows = drawn[begin : begin + at_once]
            part = {name: transfer.read(name, rows) for name, _, _ in transfer.layout.fields()}
            part["images"] = np.ascontiguousarray(part["images"][..., ::-1])
            part["labels"] = maps.predict(teacher, to_unit(part["images"]), device, answered_at_once(transfer))
            part["source"] = rows
            seen = (part["labels"] == label).any((1, 2))
            writer.append(**{name: values[seen] for name, values in part.items()})
            resampled += int(seen.sum())
    uncovered = [name for name, number in zip(teacher.description.classes, counts) if not number]
    return writer, {"per_class": per_class, "resampled": resampled, "stands_out_nowhere": uncovered}


def none(config, teacher, transfer, start, device) -> tuple[Writer, dict]:
    """All samples as they are."""
    return copy(transfer, start(len(transfer)), np.arange(len(transfer))), {}


def confident(config, teacher, transfer, start, device) -> tuple[Writer, dict]:
    """Only samples whose largest probability reaches the threshold."""
    chosen = np.flatnonzero(confidence(transfer, teacher, device) >= config.threshold)
    return copy(transfer, start(len(chosen)), chosen), {}


def weight(config, teacher, transfer, start, device) -> tuple[Writer, dict]:
    """All samples, weighted so that each class that occurs is drawn as often as every other; mean weight 1."""
    if transfer.layout.dense:
        weights = segmentation.weights(segmentation.shares_of(transfer))
        return copy(transfer, start(len(weights)), np.arange(len(weights)), weights.astype(np.float32)), {}
    labels = transfer.read("labels")
    counts = np.bincount(labels, minlength=transfer.layout.num_classes)
    weights = len(labels) / (np.count_nonzero(counts) * counts[labels])
    return copy(transfer, start(len(labels)), np.arange(len(labels)), weights.astype(np.float32)), {}


MODES = {"none": none, "equal": equal, "confidence": confident, "weight": weight}


def run(job: Job):
    """Make the balanced set of a job."""
    device, started = select_device(), time.monotonic()
    teacher = network_file.load_frozen(job.inputs[0], device)
    with TransferSet(job.inputs[1]) as transfer, atomic.exclusive(job.out, job.key) as partial:
        if partial is None:
            return
        transfer.require_fit(teacher.description)
        teacher = answering_network.of(teacher, transfer.metadata)
        layout = transfer.layout
        if job.config.mode == "weight":
            layout = replace(layout, weights=True)
        if job.config.mode == "equal":
            layout = replace(layout, source=True)
        # Balancing is quick beside synthesis, and starts afresh.
        start = functools.partial(Writer, partial, job.key, layout, resume=False)
        writer, stats = MODES[job.config.mode](job.config, teacher, transfer, start, device)
        classes = teacher.description.classes
        before, number = class_counts(transfer), len(transfer)
        after = writer.counts
        histograms = {"classes": list(classes), "histogram_before": before.tolist(), "histogram_after": after.tolist()}
        metadata = {**transfer.metadata, "balance": job.config.mode, **histograms, **stats}
        writer.finish(job.provenance(device), metadata, transfer.networks())
        atomic.commit(partial, job.out)
    missing = spelled([name for name, count in zip(classes, after) if not count])
    progress.say(f"balance: {number} -> {writer.done} samples, uncovered: {missing}, {time.monotonic() - started:.1f} s")


def spelled(names: list[str]) -> str:
    """Class names for a line of a log; of many their number and the first."""
    if len(names) <= MOST_SPELLED:
        return ", ".join(names) or "none"
    return f"{len(names)} classes ({first_of(names, MOST_SPELLED)})"


if __name__ == "__main__":
    run_step("balance", run)
