"""Step: a transfer set, made from the teacher alone (or, for an arbitrary transfer set, from another data set).

Resumes after the last whole batch, or from the last checkpoint of a method that trains something first. Images are
stored first and the teacher's logits are those of the stored image.
"""

import functools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from .methods import registry as method_registry
from .pipeline import shards, together
from .pipeline.job import Job, run_step
from .pipeline.spec import of_path
from .runtime import event_files, progress
from .runtime.device import select_device
from .runtime.errors import UserError
from .runtime.threads import thread_count
from .storage import atomic, checkpoint, dataset_file, network_file
from .storage.image_format import to_stored
from .storage.transfer_set import Layout, TransferSet, Writer
from .training import maps
from .training.predict import predict

MOST_ROUNDS = 500  # in learning curves, evenly spread: no picture of them shows more


def in_order(method, batches: range):
    """The batches of a method with these numbers, in order.

    On the CPU they are made side by side, each on one thread: faster than two threads on one small batch, and bytes
    that do not depend on the number of threads.
    """
    workers = thread_count() if method.device.type == "cpu" else 1
    if workers == 1:
        yield from map(method.batch, batches)
        return
    torch.set_num_threads(1)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = deque()
        for index in batches:
            waiting.append(pool.submit(method.batch, index))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def state_of(partial) -> Path:
    """The hidden file that keeps a method's state."""
    return Path(f"{partial}.state")


def record(history: dict[str, list], number: int, total: int, figures: dict[str, float]):
    """The figures of round ``number`` of ``total`` into learning curves, unless it is left out of more than MOST_ROUNDS."""
    if number % -(-total // MOST_ROUNDS) == 0 or number == total:
        for name, value in {"round": number, **figures}.items():
            history.setdefault(name, []).append(float(f"{value:.5g}") if name != "round" else number)


def train(method, rounds: range, key: str, path) -> dict[str, list]:
    """The method's own training, round by round, from the last checkpoint on; returns its learning curves: "round" -> numbers
    from 1, and the name of each figure that rounds return -> values."""
    with checkpoint.opened(path, key) as kept:
        history = kept["history"] if kept else {"round": []}
        first = kept["rounds"] if kept else 0
        if kept:
            method.restore(kept["state"])
            progress.say(f"resumes after round {first} of {len(rounds)}")
    pace = checkpoint.Pace()
    with progress.bar(total=len(rounds), initial=first, desc=method.config.method, unit="round") as bar:
        for number in range(first, len(rounds)):
            if figures := method.round(rounds[number]):
                record(history, rounds[number] + 1, method.rounds, figures)
                event_files.add(rounds[number] + 1, figures)
                bar.set_postfix_str(", ".join(f"{name} {value:.4g}" for name, value in figures.items()), refresh=False)
            bar.update()
            if number + 1 == len(rounds) or pace.due():
                pace.save(path, key, rounds=number + 1, state=method.state(), history=history)
    return history


def make(job: Job, device):
    """The method of a job, with its frozen teacher and its sources."""
    specs = of_path(job.out)
    if faults := together.of_sources(specs["dataset"], specs["transfer"]):
        raise UserError("\n".join(faults))
    teacher = network_file.load_frozen(job.inputs[0], device)
    sources = [dataset_file.open_dataset(path) for path in job.inputs[1:]]
    for source in sources:
        source.require_images()
    return made_for(job.config, teacher, sources, device)


def made_for(config, teacher, sources, device):
    """The method of a config; raises UserError where it is not for the teacher's task."""
    if fault := method_registry.refusal(config.method, teacher.description.task):
        raise UserError(f"transfer: {config.method}: {fault}")
    return method_registry.load(config.method)(config, teacher, sources, device)


def layout_of(method) -> Layout:
    """The layout of a method's transfer set."""
    config, described = method.config, method.teacher.description
    return Layout(described.image_shape, described.num_classes, config.image_type, method.has_targets, task=described.task)


def stored(batch, image_type: str) -> dict:
    """The fields of a batch that do not need the teacher."""
    images = to_stored(batch.images.detach().float().cpu().numpy(), image_type)
    fields = {"images": images, "round": np.broadcast_to(np.asarray(batch.round), len(images))}
    return fields if batch.targets is None else {**fields, "targets": batch.targets.float().cpu().numpy()}


def fill(job: Job, method, batches: range, partial, key: str) -> tuple[Writer, dict]:
    """Some ``batches`` of a method in the working file, after the training that they need; what is there stays. Also returns
    the learning curves."""
    config, history = job.config, {}
    if rounds := method.rounds_for(batches):
        history = train(method, rounds, key, state_of(partial))
    total = sum(len(method.rows(index)) for index in batches)
    writer = Writer(partial, key, layout_of(method), total)
    if writer.done:
        progress.say(f"resumes from sample {writer.done} of {total}")
    with progress.bar(total=total, initial=writer.done, desc=config.method, unit="sample") as bar:
        # By map, which keeps no batch: its floats would lie beside those of the next one.
        for fields in map(functools.partial(stored, image_type=config.image_type), in_order(method, batches[writer.batches :])):
            images = fields["images"]
            # A network that answers by the statistics of a batch is shown all of it.
            rows = 0 if method.answering is method.teacher else len(images)
            if writer.layout.dense:
                answers = {"labels": maps.predict(method.answering, images, method.device, rows)}
            else:
                logits = predict(method.answering, images, method.device, rows)
                answers = {"logits": logits, "labels": logits.argmax(1)}
            writer.append(**fields, **answers)
            bar.update(len(images))
    if losses := getattr(getattr(method, "objective", None), "last", None):
        # Where one of them is hundreds of times another, that one alone is minimised: its weight is not one for this teacher.
        listed = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
        progress.say(f"weighted losses of the last step: {listed}")
    return writer, history


def gather(job: Job, method, paths: list[Path], partial) -> tuple[Writer, dict, dict]:
    """The batches, networks and learning curves of all shards, in order."""
    # Copying is quick beside synthesis, and starts afresh.
    writer, kept, history = Writer(partial, job.key, layout_of(method), method.total, resume=False), {}, {}
    for path in paths:
        with TransferSet(path) as shard:
            for _, part in shard.chunks(*(name for name, _, _ in shard.layout.fields()), rows=job.config.batch):
                writer.append(**part)
            kept |= shard.networks()
            for name, values in shard.metadata.get("history", {}).items():
                history[name] = [*history.get(name, []), *values]
    progress.say(f"gathered {writer.done} samples of {len(paths)} shards")
    return writer, kept, history


def metadata(job: Job, method, history: dict) -> dict:
    """What the report says of the set: its origin, as ``origin_of`` says it, a label for people, and learning curves."""
    dataset = of_path(job.out)["dataset"]
    names = [path.parent.name for path in job.inputs[1:]]
    real = [name for name in names if together.same_files(dataset, name)]
    metadata = {"method": job.config.method, "origin": origin_of(method, real, names), **method.about()}
    metadata["classes"] = list(method.teacher.description.classes)
    if method.all_from_sources and real:
        metadata["label"] = "real data" if dataset in real else f"real data ({', '.join(real)})"
    elif method.all_from_sources:
        metadata["label"] = f"other data ({', '.join(names)})"
    elif real:
        metadata["label"] += ", with real data"
    elif method.drawn and metadata["label"] == job.config.method:
        metadata["label"] += f" from {', '.join(method.drawn)}"
    return {**metadata, "history": history} if history.get("round") else metadata


def origin_of(method, real: list[str], sources: list[str]) -> str:
    """What a set is made from: ``real`` = the files of the teacher's own data set, ``real`` among its ``sources``; ``other`` =
    another data set, or a mixture with any; ``prior-based`` = images drawn by formula, or that start from such, or from label
    embeddings of another network, so not from the teacher alone; ``data-free`` = the teacher alone, or noise."""
    if sources:
        return "real" if method.all_from_sources and real else "other"
    return "prior-based" if method.drawn else "data-free"


def kept_by(method) -> dict[str, bytes]:
    """The networks that a method leaves with its set, as files."""
    return {name: network_file.to_bytes(network) for name, network in method.networks().items()}


def finish(job: Job, method, writer: Writer, kept: dict, history: dict, partial, out) -> int:
    """Make a filled working file appear as ``out``; returns its samples."""
    writer.finish(job.provenance(method.device), metadata(job, method, history), kept)
    atomic.commit(partial, out)
    return writer.done


def run(job: Job):
    """Make the transfer set of a job."""
    device = select_device()
    method = make(job, device)
    with atomic.exclusive(job.out, job.key) as partial:
        if partial is None:
            return
        paths = shards.whole(job)
        if paths:
            writer, kept, history = gather(job, method, paths, partial)
        else:
            if others := shards.beside(job.out):
                progress.say(f"{len(others)} shards exist that do not make up the current set; making all of it")
            writer, history = fill(job, method, range(method.count()), partial, job.key)
            kept = kept_by(method)
        number = finish(job, method, writer, kept, history, partial, job.out)
        shards.clear(job.out)
    progress.say(f"synthesize: {number} samples, {progress.spent():.1f} s, key {job.key}")


if __name__ == "__main__":
    run_step("synthesize", run)
