"""The synthesis methods. One file each, one line here, one YAML in params/transfer.

A module holds ``Config`` (a dataclass derived from ``TransferConfig``) and ``Method``, see ``base.py``.
The modules are imported when asked for, so that a change in one method reruns that method alone.
"""

import importlib

REGISTRY = {
    "adi": "dfkd_steps.methods.adi",
    "cmi": "dfkd_steps.methods.cmi",
    "dafl": "dfkd_steps.methods.dafl",
    "dataset": "dfkd_steps.methods.dataset",
    "deepinversion": "dfkd_steps.methods.deepinversion",
    "dfad": "dfkd_steps.methods.dfad",
    "dfq": "dfkd_steps.methods.dfq",
    "fast": "dfkd_steps.methods.fast",
    "generative": "dfkd_steps.methods.generative",
    "mixture": "dfkd_steps.methods.mixture",
    "noise": "dfkd_steps.methods.noise",
    "procedural": "dfkd_steps.methods.procedural",
    "soft-targeted": "dfkd_steps.methods.soft_targeted",
    "ssd-kd": "dfkd_steps.methods.ssd_kd",
    "zskd": "dfkd_steps.methods.zskd",
    "zskt": "dfkd_steps.methods.zskt",
}


def load(name: str):
    """The module of a registered method."""
    return importlib.import_module(REGISTRY[name])
