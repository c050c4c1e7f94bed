"""The synthesis methods: name in params/ -> module of this folder. One file each, one line here, one YAML in params/transfer.

A module is imported when its method is asked for, so that a change in one method makes the sets of that method alone stale.
"""

import importlib

REGISTRY = {
    "adi": "adi",
    "cmi": "cmi",
    "dafl": "dafl",
    "dataset": "dataset",
    "deepinversion": "deepinversion",
    "dfad": "dfad",
    "dfq": "dfq",
    "fast": "fast",
    "generative": "generative",
    "mixture": "mixture",
    "noise": "noise",
    "procedural": "procedural",
    "soft-targeted": "soft_targeted",
    "ssd-kd": "ssd_kd",
    "zskd": "zskd",
    "zskt": "zskt",
}


def module_of(name: str) -> str:
    """The module (below dfkd_steps) of a method."""
    return f"methods.{REGISTRY[name]}"


def load(name: str):
    """The module of a registered method."""
    return importlib.import_module(f"dfkd_steps.{module_of(name)}")
