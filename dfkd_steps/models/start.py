"""Weights that training starts from: those of a part of the network, such as an encoder that was trained on ImageNet."""

from pathlib import Path

import torch

from ..runtime import progress
from ..runtime.errors import UserError
from .checkpoint_file import read_weights

LEAST = 0.5  # share of the checkpoint's numbers that have to find their place


def encoder(classifier, file: str):
    """Weights of a file into the part of a network whose names, behind one prefix, and shapes are theirs.

    Raises UserError where less than half of the file fits anywhere.
    """
    weights = {
        name: value.float() if value.is_floating_point() else value for name, value in read_weights(Path(file), "").items()
    }
    state = classifier.net.state_dict()
    first = next(iter(weights), "")
    prefixes = {name[: -len(first)] for name in state if name == first or name.endswith(f".{first}")} if first else set()
    best: dict[str, torch.Tensor] = {}
    for prefix in sorted(prefixes):
        fitting = {prefix + name: value for name, value in weights.items() if _fits(state.get(prefix + name), value)}
        best = max(best, fitting, key=lambda part: sum(value.numel() for value in part.values()))
    given, taken = (sum(value.numel() for value in part.values()) for part in (weights, best))
    if taken < LEAST * given or not given:
        raise UserError(
            f"{file}: {taken:,} of its {given:,} values fit into {classifier.description.name}; start from the weights of its "
            "encoder, or remove start"
        )
    classifier.net.load_state_dict(best, strict=False)
    progress.say(f"teacher: initialised from {file}: {taken:,} of {sum(value.numel() for value in state.values()):,} values")


def _fits(place, value) -> bool:
    return place is not None and place.shape == value.shape
