"""How a config field is declared: default, meaning, range or choices, beside one another."""

import dataclasses

from omegaconf import MISSING


def opt(default, doc: str, *, lo=None, hi=None, choices=None, above=None, reads: str | None = None):
    """A dataclass field.

    lo <= value <= hi and value > above, where given; choices is a closed set (a function is called when the value is
    checked). ``reads="dataset"`` says that the value is the spec of a data set that the step reads as an input.
    """
    metadata = {"doc": doc, "lo": lo, "hi": hi, "above": above, "choices": choices, "reads": reads}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def required(doc: str, **limits):
    """A field that the YAML file must give."""
    return opt(MISSING, doc, **limits)


def fault(item: dataclasses.Field, value) -> str | None:
    """Why a value of the right type is not allowed, or None."""
    limits = item.metadata
    choices = limits["choices"]() if callable(limits["choices"]) else limits["choices"]
    for one in value if isinstance(value, list) else [value]:
        if choices is not None and one not in choices:
            return f"is none of {', '.join(map(str, choices))}"
        if isinstance(one, float) and not abs(one) < float("inf"):
            return "is not a finite number"
        if limits["lo"] is not None and one < limits["lo"]:
            return f"is below {limits['lo']}, the least allowed"
        if limits["above"] is not None and one <= limits["above"]:
            return f"must be above {limits['above']}"
        if limits["hi"] is not None and one > limits["hi"]:
            return f"is above {limits['hi']}, the most allowed"
    return None


def span(item: dataclasses.Field) -> str:
    """The allowed values, for people."""
    limits = item.metadata
    choices = limits["choices"]() if callable(limits["choices"]) else limits["choices"]
    if choices is not None:
        return " | ".join(str(one) or "''" for one in choices)
    low = f"> {limits['above']}" if limits["above"] is not None else f">= {limits['lo']}" if limits["lo"] is not None else ""
    high = f"<= {limits['hi']}" if limits["hi"] is not None else ""
    return ", ".join(part for part in (low, high) if part)
