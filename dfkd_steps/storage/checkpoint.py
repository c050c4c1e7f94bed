"""State of a long computation, kept beside its output so that an interrupted step goes on from it."""

import contextlib
import copy
import os
import resource
import time
from pathlib import Path

import torch

from ..runtime import progress
from ..runtime.errors import let_through

EVERY = 20.0  # seconds between two checkpoints, at least
SHARE = 0.05  # of the time goes into checkpoints, at most


def state_of(net, optimizer) -> dict:
    """Weights and moments of a network in training."""
    return {"net": net.state_dict(), "optimizer": optimizer.state_dict()}


def restore(net, optimizer, state: dict):
    """Weights and moments as ``state_of`` found them, in place."""
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # which keeps the tensors that it is given


def first_rows(tensor, number: int):
    """The first rows of a tensor for a checkpoint, on the CPU: no copy of what lies there, since a pool of images may be most of
    what memory holds, and no more than these rows, where of a slice ``torch.save`` writes all that it is a part of."""
    rows = tensor[:number].detach()
    return torch.from_numpy(rows.numpy()) if rows.device.type == "cpu" else rows.cpu()


def save(path, key: str, **content):
    """Replace the checkpoint at ``path``: nested dicts and lists of tensors and plain values, with the job's key."""
    beside = Path(f"{path}.next")
    try:
        torch.save({"key": key, "seconds": progress.spent(), **content}, beside)
    except Exception:  # on a full disk it would hold the room that everybody else needs
        beside.unlink(missing_ok=True)
        raise
    os.replace(beside, path)


class Pace:
    """When the next checkpoint is due."""

    def __init__(self):
        self.saved, self.took = time.monotonic(), 0.0

    def due(self) -> bool:
        """Is it long enough since the last one, and beside what that one took?"""
        return time.monotonic() - self.saved > (max(EVERY, self.took / SHARE) if EVERY > 0 else EVERY)

    def save(self, path, key: str, **content):
        """``save``, timed."""
        started = time.monotonic()
        save(path, key, **content)
        self.saved = time.monotonic()
        self.took = self.saved - started


@contextlib.contextmanager
def opened(path, key: str):
    """``load`` for the time of a ``with`` block, which copies what it goes on from: tensors are pages of the file, as a pool of
    images may be most of what memory holds, and the pool that they are copied to is there already."""
    limit, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if limit != resource.RLIM_INFINITY and os.path.isfile(path):  # pages that the kernel can take back count there too
        there = limit + os.path.getsize(path)
        resource.setrlimit(resource.RLIMIT_DATA, (there if hard == resource.RLIM_INFINITY else min(there, hard), hard))
    kept = None
    try:
        kept = load(path, key)
        yield kept
    finally:
        if kept:
            kept.clear()  # whoever called may keep the name
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def load(path, key: str) -> dict | None:
    """What was saved under this key, on the CPU, read as it is used; None where there is nothing, or nothing of use (says so). An
    error of the system (no memory, no permission) is raised: the state may be whole, and starting over would replace it."""
    if not Path(path).is_file():
        return None
    try:
        kept = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except Exception as error:  # whatever a truncated file makes torch raise, the answer is to start over
        let_through(error)
        progress.say(f"{path}: not usable ({type(error).__name__}), starting over")
        return None
    if not isinstance(kept, dict) or kept.get("key") != key:
        progress.say(f"{path}: was made with a different config or code, starting over")
        return None
    progress.resumed(kept.pop("seconds", 0.0))
    return kept
