"""How a config field is declared: default, meaning, range or choices, beside one another."""

import dataclasses
from typing import Any

from omegaconf import MISSING

LARGEST = 1 << 63


def opt(
    default, doc: str, *, lo=None, hi=None, choices=None, above=None, reads: str | None = None, code=None, external=None
) -> Any:
    """A dataclass field.

    lo <= value <= hi and value > above, where given; choices is a closed set (a function is called when the value is
    checked). ``reads="dataset"`` says that the value is the spec of a data set that the step reads as an input.
    ``code``: value -> the module (below dfkd_steps) that the step runs because of it, and perhaps what it is called with.
    ``external``: the value names what lies outside this package, and its content counts: of a 'file', of all in a 'folder',
    of the 'idx' files in a folder, of the source of a 'factory' package.module:function, or of the factory that a 'network'
    names, if it does (pipeline.external).
    """
    metadata = {"doc": doc, "lo": lo, "hi": hi, "above": above, "choices": choices, "reads": reads, "code": code,
                "external": external}  # fmt: skip
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def required(doc: str, **limits) -> Any:
    """A field that the YAML file must give."""
    return opt(MISSING, doc, **limits)


def choices(item: dataclasses.Field) -> Any:
    """The closed set of allowed values, or None. It may hold more than it lists, and then says by ``like(value)`` what to
    list for a wrong one.
    """
    declared = item.metadata["choices"]
    return declared() if callable(declared) else declared


def known(item: dataclasses.Field, value) -> list[str] | None:
    """The allowed values to list for a wrong one, as they are spelled; None where any value is allowed."""
    allowed = choices(item)
    listed = allowed.like(str(value)) if hasattr(allowed, "like") else allowed
    return None if listed is None else [str(choice) or "''" for choice in listed]


def fault(item: dataclasses.Field, value) -> str | None:
    """Why a value of the right type is not allowed, or None."""
    limits, allowed = item.metadata, choices(item)
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str) and not entry.isprintable():
            return "is not printable text"
        if allowed is not None and entry not in allowed:
            return "is unknown"
        if isinstance(entry, float) and not abs(entry) < float("inf"):
            return "is not a finite number"
        if isinstance(entry, int) and abs(entry) >= LARGEST:
            return "is not a 64-bit number"
        if limits["lo"] is not None and entry < limits["lo"]:
            return f"is below {limits['lo']}, the minimum"
        if limits["above"] is not None and entry <= limits["above"]:
            return f"must be above {limits['above']}"
        if limits["hi"] is not None and entry > limits["hi"]:
            return f"is above {limits['hi']}, the maximum"
    return None


def span(item: dataclasses.Field) -> str:
    """The allowed values, for people."""
    limits, allowed = item.metadata, choices(item)
    if allowed is not None:
        return " | ".join(str(choice) or "''" for choice in allowed)
    low = f"> {limits['above']}" if limits["above"] is not None else f">= {limits['lo']}" if limits["lo"] is not None else ""
    high = f"<= {limits['hi']}" if limits["hi"] is not None else ""
    return ", ".join(part for part in (low, high) if part)
