"""The synthesis methods. One file each, one line here, one YAML in params/transfer.

A module holds ``Config`` (a dataclass derived from ``TransferConfig``) and ``Method``, see ``base.py``.
The modules are imported when asked for, so that a change in one method reruns that method alone.
"""

import importlib

REGISTRY = {
    "dataset": "dfkd_steps.methods.dataset",
    "noise": "dfkd_steps.methods.noise",
    "zskd": "dfkd_steps.methods.zskd",
}


def load(name: str):
    """The module of a registered method."""
    return importlib.import_module(REGISTRY[name])
