"""Step: a transfer set in which the teacher sees its classes as often as asked (arXiv 2011.09113).

Streams: what is held in memory beside one chunk is a few numbers a sample, never the images.
"""

import functools
import time
from dataclasses import replace

import numpy as np
import torch

from .models import frozen
from .pipeline.job import Job, run_step
from .runtime import memory, progress
from .runtime.device import select_device
from .runtime.seeds import make_rng, seed_of
from .storage import atomic, network_file
from .storage.image_format import to_stored, to_unit
from .storage.transfer_set import TransferSet, Writer, class_counts
from .training import maps, segmentation_balance, views
from .training.predict import predict, to_float

CHUNK = 1024  # samples that are read, drawn or pushed at once, at most: of large images fewer
PUSHED = 64 << 20  # bytes of the pushed images of a class, at most


def softmax(logits):
    """Rows of logits (N,K) as probabilities, numpy float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def confidence(transfer, teacher=None, device=None) -> np.ndarray:
    """The teacher's largest probability for each sample (N); for segmentation mean over its pixels, asked again."""
    if transfer.layout.dense:
        rows = memory.passed(transfer.layout.image_shape)
        parts = (part["images"] for _, part in transfer.chunks("images", rows=rows))
        return np.concatenate([maps.confidence(teacher, to_unit(part), device) for part in parts])
    return np.concatenate([softmax(part["logits"]).max(1) for _, part in transfer.chunks("logits", rows=CHUNK)])


def likeliest(transfer, labels, number: int) -> np.ndarray:
    """For each of some classes (L) the samples with the highest teacher probability for it, best first: (L,number) rows."""
    best, found = np.empty((len(labels), 0)), np.empty((len(labels), 0), np.int64)
    for start, part in transfer.chunks("logits", rows=CHUNK):
        probability = softmax(part["logits"])[:, labels].T
        rows = np.broadcast_to(np.arange(start, start + probability.shape[1]), probability.shape)
        best, found = np.concatenate([best, probability], 1), np.concatenate([found, rows], 1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :number]
        best, found = np.take_along_axis(best, order, 1), np.take_along_axis(found, order, 1)
    return found


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


def pushed_at_most(transfer) -> int:
    """Samples of a class that are pushed: they are held as long as others of the class are drawn from them."""
    return max(1, min(CHUNK, PUSHED * len(transfer) // max(1, transfer.nbytes("images"))))


def copy(transfer, writer, chosen, weights=None) -> Writer:
    """Append the chosen samples (sorted) to the writer, a chunk at a time; returns it."""
    at_once = drawn_at_once(transfer)
    for start in range(0, len(chosen), at_once):
        rows = chosen[start : start + at_once]
        part = {name: transfer.read(name, rows) for name, _, _ in transfer.layout.fields()}
        if weights is not None:
            part["weights"] = weights[rows]
        writer.append(**part)
    return writer


class Resampler:
    """Makes more samples of a class out of those there are, and asks the teacher about each again."""

    def __init__(self, config, teacher, transfer, device):
        self.config, self.teacher, self.transfer, self.device = config, teacher, transfer, device
        self.image_type = transfer.layout.image_type
        self.at_once = drawn_at_once(transfer)

    def fields(self, stored, logits, label):
        """All fields of new samples; the target is the softmax of the teacher's logits."""
        fields = {"images": stored, "logits": logits, "labels": np.full(len(stored), label), "round": np.zeros(len(stored))}
        if "targets" in self.transfer:
            fields["targets"] = softmax(logits).astype(np.float32)
        if "weights" in self.transfer:
            fields["weights"] = np.ones(len(stored), np.float32)
        return fields

    def draw(self, pool, label: int, missing: int):
        """Yield ``missing`` samples of a class as augmented copies of ``pool`` (stored images) that keep the class.

        After ``rounds`` rounds without enough, the rest are copies as they are.
        """
        rng = np.random.default_rng(seed_of("balance", self.config.seed, "deficit", label))
        augment_rng = make_rng(self.device, "balance", self.config.seed, "augment", label)
        for _ in range(self.config.rounds):
            left = min(CHUNK, 2 * missing + 16)  # of the round; of large images a piece after the other
            while left and missing:
                number = min(left, self.at_once)
                picked = pool(rng.integers(0, pool.size, number))
                augmented = views.view("mild", to_float(torch.from_numpy(picked).to(self.device)), augment_rng)
                stored = to_stored(augmented.cpu().numpy(), self.image_type)
                logits = predict(self.teacher, stored, self.device)
                right = np.flatnonzero(logits.argmax(1) == label)[:missing]
                left, missing = left - number, missing - len(right)
                if len(right):
                    yield self.fields(stored[right], logits[right], label)
        while missing:
            stored = pool(rng.integers(0, pool.size, min(self.at_once, missing)))
            missing -= len(stored)
            yield self.fields(stored, predict(self.teacher, stored, self.device), label)

    def pushed(self, labels, number: int):
        """For each of some classes in order, stored images and logits of the ``number`` likeliest samples that a push makes the
        teacher call so: (n,C,H,W) and (n,K). Samples of several classes are pushed together."""
        if not len(labels):
            return
        chosen = np.sort(likeliest(self.transfer, labels, number), axis=1)
        rows, targets, number = chosen.ravel(), np.repeat(labels, chosen.shape[1]), chosen.shape[1]
        images, logits, waiting = np.empty((0, *self.transfer.layout.image_shape), self.image_type), None, iter(labels)
        for start in range(0, len(rows), self.at_once):
            part = slice(start, start + self.at_once)
            stored, found = self.push(rows[part], targets[part])
            images = np.concatenate([images, stored])
            logits = found if logits is None else np.concatenate([logits, found])
            while len(images) >= number and (label := next(waiting, None)) is not None:
                right = logits[:number].argmax(1) == label
                yield images[:number][right], logits[:number][right]
                images, logits = images[number:], logits[number:]

    def push(self, rows, targets):
        """Samples moved by signed gradient steps until the teacher sees ``targets`` (N) in them: stored images, and logits."""
        images = to_float(torch.from_numpy(to_unit(self.transfer.read("images", rows))).to(self.device))
        targets, going = torch.from_numpy(targets).to(self.device), torch.arange(len(rows), device=self.device)
        for _ in range(self.config.push_steps):
            moved = images[going].requires_grad_()
            loss = torch.nn.functional.cross_entropy(self.teacher(moved), targets[going], reduction="none")
            step = torch.autograd.grad(loss.sum(), moved)[0].sign() * self.config.push_lr
            # A probability of 0.9 and not just the argmax, which rounding to uint8 could undo.
            far = loss.detach() > -np.log(0.9)
            going = going[far]
            if not len(going):
                break
            images[going] = (moved.detach() - step)[far].clamp(0, 1)
        stored = to_stored(images.cpu().numpy(), self.image_type)
        return stored, predict(self.teacher, stored, self.device)


class Members:
    """Stored images of a class, by position among its members; read from the file a chunk at a time."""

    def __init__(self, transfer, members):
        self.transfer, self.members, self.size = transfer, members, len(members)

    def __call__(self, positions):
        return self.transfer.read("images", self.members[positions])


class Held:
    """Stored images held in memory: the few that were pushed."""

    def __init__(self, images):
        self.images, self.size = images, len(images)

    def __call__(self, positions):
        return self.images[positions]


# A mode starts a writer with the number of samples it needs at most, fills it, and returns it and what to tell.
def equal(config, teacher, transfer, start, device) -> tuple[Writer, dict]:
    """The same number for each class; tells per_class, resampled and pushed samples, classes uncovered."""
    if transfer.layout.dense:
        return equal_images(config, teacher, transfer, start, device)
    labels = transfer.read("labels")
    counts = np.bincount(labels, minlength=transfer.layout.num_classes)
    per_class = quota(counts, config)
    chosen, missing = choose(labels, per_class, config, transfer, teacher, device), np.maximum(per_class - counts, 0)
    if config.deficit == "short":
        missing = np.minimum(missing, pushed_at_most(transfer)) * (counts == 0)
    writer = copy(transfer, start(len(chosen) + int(missing.sum())), chosen)
    stats = {"per_class": per_class, "resampled": 0, "pushed": 0, "uncovered": []}
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
            stored, logits = next(pushed, ((), ()))
            if not len(stored):
                stats["uncovered"].append(teacher.description.classes[label])
                continue
            writer.append(**resampler.fields(stored, logits, label))
            stats["pushed"] += len(stored)
            pool, missing = Held(stored), missing - len(stored)
        if config.deficit == "resample":
            for fields in resampler.draw(pool, label, missing):
                writer.append(**fields)
                stats["resampled"] += len(fields["labels"])
    return writer, stats


def equal_images(config, teacher, transfer, start, device) -> tuple[Writer, dict]:
    """For segmentation: as many images for each class that stands out in them (``segmentation_balance.dominant``); of a class
    with too few, images are drawn again and mirrored, and the teacher is asked about those. No image is pushed to a class.

    Tells per_class, resampled, classes that stand out nowhere.
    """
    labels = segmentation_balance.dominant(segmentation_balance.shares_of(transfer))
    counts = np.bincount(labels, minlength=transfer.layout.num_classes)
    # Of the classes that there are: nothing stands for one that no image shows.
    per_class = quota(counts[counts > 0], config)
    chosen = choose(labels, per_class, config, transfer, teacher, device)
    missing = np.maximum(per_class - counts, 0) * (counts > 0) * (config.deficit == "resample")
    writer = copy(transfer, start(len(chosen) + int(missing.sum())), chosen)
    at_once = drawn_at_once(transfer)
    for label in np.flatnonzero(missing):
        rng = np.random.default_rng(seed_of("balance", config.seed, "deficit", int(label)))
        drawn = rng.choice(np.flatnonzero(labels == label), missing[label])
        for begin in range(0, len(drawn), at_once):
            rows = drawn[begin : begin + at_once]
            part = {name: transfer.read(name, rows) for name, _, _ in transfer.layout.fields()}
            part["images"] = np.ascontiguousarray(part["images"][..., ::-1])
            writer.append(**part | {"labels": maps.predict(teacher, to_unit(part["images"]), device)})
    uncovered = [name for name, number in zip(teacher.description.classes, counts) if not number]
    return writer, {"per_class": per_class, "resampled": int(missing.sum()), "stands_out_nowhere": uncovered}


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
        weights = segmentation_balance.weights(segmentation_balance.shares_of(transfer))
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
        teacher = frozen.answering(teacher, transfer.metadata)
        layout = transfer.layout
        if job.config.mode == "weight":
            layout = replace(layout, weights=True)
        # Balancing is quick beside synthesis, and starts afresh.
        start = functools.partial(Writer, partial, job.key, layout, resume=False)
        writer, stats = MODES[job.config.mode](job.config, teacher, transfer, start, device)
        classes = teacher.description.classes
        before, number = class_counts(transfer), len(transfer)
        after = writer.counts
        histograms = {"classes": list(classes), "histogram_before": before.tolist(), "histogram_after": after.tolist()}
        stats = {"uncovered": [name for name, number in zip(classes, after) if not number], **stats}
        metadata = {**transfer.metadata, "balance": job.config.mode, **histograms, **stats}
        writer.finish(job.provenance(device), metadata, transfer.networks())
        atomic.commit(partial, job.out)
    missing = ", ".join(stats["uncovered"]) or "none"
    progress.say(f"balance: {number} -> {writer.done} samples, uncovered: {missing}, {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    run_step("balance", run)
