"""Is a transfer set whole and right? Reads every sample of it, in chunks."""

import functools
import math
from pathlib import Path

import numpy as np

from ..runtime.errors import UserError, printable, reading, remedy_for
from . import atomic, dataset_file, exported, hdf5, network_file, set_layout
from .transfer_set import TransferSet


def kind_of(path) -> str:
    """'transfer_set', 'dataset', 'network', 'metrics' or 'export'; raises UserError for a missing, damaged or foreign file."""
    path = Path(path)
    if path.suffix not in (".h5", ".safetensors", ".json"):
        name = printable(str(path))
        raise UserError(
            f"{name}: is not an artefact; give a transfer_set.h5, dataset.h5, *.safetensors, metrics.json or export.json"
        )
    atomic.key_of(path)
    if path.suffix == ".safetensors":
        return "network"
    if path.suffix == ".json":
        kind = atomic.read_json(path).get("kind", "metrics")
        if kind not in ("metrics", "export"):
            raise UserError(f"{path}: is neither metrics nor an export of dfkd; {remedy_for(path, *atomic.NAMES['.json'])}")
        return kind
    with reading(path):
        kind = hdf5.structure(path, functools.partial(hdf5.text, name="kind"))
    if kind not in (dataset_file.KIND, set_layout.KIND):
        raise UserError(f"{path}: is neither a data set nor a transfer set of dfkd; {remedy_for(path, *atomic.NAMES['.h5'])}")
    return kind


def verify(path) -> list[str]:
    """What is wrong with an artefact, a line each; empty when nothing is. Raises UserError for what is no artefact at all."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{printable(str(path))}: no such file; give an artefact that exists")
    if path.suffix not in (".h5", ".safetensors", ".json"):
        kind_of(path)
    try:
        checks = {"dataset": _verify_dataset, "network": _verify_network, "metrics": _verify_metrics, "export": _verify_export}
        with reading(path):
            problems = {**checks, "transfer_set": verify_transfer_set}[kind_of(path)](path)
        if not problems and path.suffix == ".h5" and (fault := hdf5.broken_seal(path)):
            return [fault]
        return problems
    except UserError as error:
        return [line.removeprefix(f"{path}: ") for line in str(error).splitlines()]


def unseen(path) -> str:
    """What ``verify`` did not compare in a sound artefact; '' where it compared all."""
    return network_file.compare(path, *network_file.read(path)) if Path(path).suffix == ".safetensors" else ""


def _verify_dataset(path):
    dataset_file.open_dataset(path)
    return []


def _verify_network(path):
    description, weights = network_file.read(path)
    network_file.compare(path, description, weights)
    return [f"{name}: holds values that are not finite" for name, value in weights.items() if not value.isfinite().all()]


# What a metrics.json has at least: with test images, or, below a card, on probe images alone.
NEEDED = (("top1", "teacher_top1", "n_test"), ("miou", "teacher_miou", "n_test"), ("probe_balanced", "n_probe"),
          ("probe_miou", "n_probe"))  # fmt: skip


def _verify_metrics(path):
    def numbers(value, where):
        if isinstance(value, dict):
            value = list(value.items())
        elif isinstance(value, list):
            value = list(enumerate(value))
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{where}: {value} is not a finite number"
        for name, part in value if isinstance(value, list) else ():
            yield from numbers(part, f"{where}.{name}" if where else str(name))

    content = atomic.read_json(path)
    needed = next((names for names in NEEDED if names[0] in content), NEEDED[0])
    faults = [f"{name}: is missing" for name in needed if name not in content]
    faults += [f"{name}: is no number" for name in needed if not isinstance(content.get(name, 0), (int, float))]
    return faults + list(numbers(content, ""))


def _verify_export(path) -> list[str]:
    return list(exported.faults(path, atomic.read_json(path)))


def verify_transfer_set(path) -> list[str]:
    """What is wrong with a transfer set, a line each; empty when nothing is. Reads all of it, in chunks."""
    try:
        opened = TransferSet(path)
    except UserError as error:
        return str(error).splitlines()
    problems, weight = [], 0.0
    with opened as transfer:
        if not len(transfer):
            return ["holds no samples"]
        names = [name for name, _, _ in transfer.layout.fields()]
        for start, part in transfer.chunks(*names):
            problems += [f"rows {start} to {start + len(part['labels']) - 1}: {fault}" for fault in _content(part)]
            weight += part["weights"].sum(dtype=np.float64) if "weights" in part else len(part["labels"])
            if len(problems) > 20:
                return [*problems, "stopped here; there may be more faults"]
        if not problems and abs(weight / len(transfer) - 1) > 1e-3:
            problems.append(f"weights have the mean {weight / len(transfer):.4g}, expected 1")
    return problems


def _content(part):
    for name in ("images", "logits", "targets", "weights"):
        if name in part and part[name].dtype.kind == "f" and not np.isfinite(part[name]).all():
            yield f"{name} has values that are not finite"
    if part["images"].dtype.kind == "f" and (part["images"].min() < 0 or part["images"].max() > 1):
        yield "images have values outside [0,1]"
    if "logits" in part and not np.array_equal(part["labels"], part["logits"].argmax(1)):
        yield "labels are not the argmax of the logits"
    if "targets" in part and (part["targets"].min() < 0 or abs(part["targets"].sum(1) - 1).max() > 1e-3):
        yield "targets are not probabilities"
    if "weights" in part and part["weights"].min() < 0:
        yield "weights are negative"
    for name in ("round", "source"):
        if name in part and part[name].min() < 0:
            yield f"{name} is negative"
