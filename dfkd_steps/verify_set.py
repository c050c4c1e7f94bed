"""Is a transfer set whole and right? Reads every sample of it, in chunks."""

import math

import numpy as np

from .errors import DAMAGE, UserError, one_line
from .transfer_set import TransferSet

VERIFY_BYTES = 64 << 20  # of a chunk


def verify(path) -> list[str]:
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
        width = sum(math.prod(transfer.file[name].shape[1:]) * transfer.file[name].dtype.itemsize for name in names)
        try:
            for start, part in transfer.chunks(*names, rows=max(1, min(1024, VERIFY_BYTES // width))):
                problems += [f"rows {start} to {start + len(part['labels']) - 1}: {fault}" for fault in _content(part)]
                weight += part["weights"].sum(dtype=np.float64) if "weights" in part else len(part["labels"])
                if len(problems) > 20:
                    return [*problems, "and perhaps more: stopped here"]
        except DAMAGE as error:
            return [*problems, f"cannot be read to its end ({one_line(error)})"]
        if not problems and abs(weight / len(transfer) - 1) > 1e-3:
            problems.append(f"weights have the mean {weight / len(transfer):.4g}, expected 1")
    return problems


def _content(part):
    for name in ("images", "logits", "targets", "weights"):
        if name in part and part[name].dtype.kind == "f" and not np.isfinite(part[name]).all():
            yield f"{name} has values that are not finite"
    if part["images"].dtype.kind == "f" and (part["images"].min() < 0 or part["images"].max() > 1):
        yield "images leave [0,1]"
    if not np.array_equal(part["labels"], part["logits"].argmax(1)):
        yield "labels are not the argmax of the logits"
    if "targets" in part and (part["targets"].min() < 0 or abs(part["targets"].sum(1) - 1).max() > 1e-3):
        yield "targets are no probabilities"
    if "weights" in part and part["weights"].min() < 0:
        yield "weights are negative"
    if part["generation"].min() < 0:
        yield "generation is negative"
