"""Step: a transfer set, made from the teacher alone (or, for an arbitrary transfer set, from another data set).

Resumes after the last whole batch, or from the last checkpoint of a method that trains something first. Images are
stored first and the teacher is asked on the stored image.
"""

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from . import artefact, checkpoint, data, methods, networks, progress, runtime, training
from .spec import of_path
from .transfer_set import Layout, Writer, to_stored


def ask(teacher, stored, device):
    """The teacher's logits (N,K) on stored images, as float32 numpy; 1,000 images at a time."""
    with torch.no_grad():
        parts = [teacher(training.to_float(torch.from_numpy(part).to(device))) for part in batches(stored, 1000)]
    return torch.cat(parts).float().cpu().numpy()


def batches(array, rows: int):
    """``array`` in pieces of ``rows``."""
    return [array[start : start + rows] for start in range(0, len(array), rows)]


def in_order(method, first: int):
    """The batches of a method from ``first`` on, in order.

    On the CPU they are made side by side, each on one thread: faster than two threads on one small batch, and bytes
    that do not depend on the number of threads.
    """
    workers = runtime.threads() if method.device.type == "cpu" else 1
    if workers == 1:
        yield from map(method.batch, range(first, method.count()))
        return
    torch.set_num_threads(1)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = deque()
        for index in range(first, method.count()):
            waiting.append(pool.submit(method.batch, index))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def state_of(partial) -> Path:
    """The hidden file that keeps a method's state."""
    return Path(f"{partial}.state")


def train(method, key: str, path):
    """The method's own training, round by round, from the last checkpoint on."""
    kept = checkpoint.load(path, key)
    first = kept["rounds"] if kept else 0
    if kept:
        method.restore(kept["state"])
        progress.say(f"resumes after round {first} of {method.rounds}")
    saved = time.monotonic()
    with progress.bar(total=method.rounds, initial=first, desc=method.config.method, unit="round") as shown:
        for index in range(first, method.rounds):
            told = method.round(index)
            if told:
                shown.set_postfix_str(told)
            shown.update()
            if time.monotonic() - saved > checkpoint.EVERY or index + 1 == method.rounds:
                checkpoint.save(path, key, rounds=index + 1, state=method.state())
                saved = time.monotonic()


def synthesize(job: artefact.Job, teacher, sources, partial, device):
    """Fill the working file; returns the writer and the method."""
    config, description = job.config, teacher.description
    method = methods.load(config.method).Method(config, teacher, sources, device)
    if method.rounds:
        train(method, job.key, state_of(partial))
    layout = Layout(description.image_shape, description.num_classes, config.batch, config.image_type, method.has_targets)
    writer, total = Writer(partial, job.key, layout), method.total
    if writer.done:
        progress.say(f"resumes from sample {writer.done} of {total}")
    with progress.bar(total=total, initial=writer.done, desc=config.method, unit="sample") as shown:
        for made in in_order(method, writer.batches):
            stored = to_stored(made.images.detach().float().cpu().numpy(), config.image_type)
            logits = ask(teacher, stored, device)
            fields = {"images": stored, "logits": logits, "labels": logits.argmax(1)}
            if method.has_targets:
                fields["targets"] = made.targets.float().cpu().numpy()
            writer.append(**fields, generation=np.broadcast_to(np.asarray(made.generation), len(stored)))
            shown.update(len(stored))
    return writer, method


def about(job: artefact.Job, method) -> dict:
    """What the report says of the set: whether it is data-free, and the baseline that it is if not."""
    own = of_path(job.out)["dataset"]
    names = [one.parent.name for one in job.inputs[1:]]
    told = {"method": job.config.method, "data_free": not names, **method.about()}
    if method.all_from_sources:
        told["label"] = "real data" if own in names else f"other data ({', '.join(names)})"
    elif own in names:
        told["label"] += ", with real data"
    return told


def run(job: artefact.Job):
    """Make the transfer set of a job."""
    device, started = runtime.device(), time.monotonic()
    teacher = networks.load_frozen(job.inputs[0], device)
    sources = [data.open_dataset(path) for path in job.inputs[1:]]
    with artefact.working(job.out, job.key) as partial:
        if partial is None:
            return
        writer, method = synthesize(job, teacher, sources, partial, device)
        whole, number = job.out.with_name(f".{job.out.name}.whole"), writer.done
        kept = {name: networks.to_bytes(network) for name, network in method.networks().items()}
        writer.finish(whole, job.provenance(device), about(job, method), kept)
        artefact.publish(whole, job.out)
        state_of(partial).unlink(missing_ok=True)
    progress.say(f"synthesize: {number} samples, {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    artefact.main("synthesize", run)
