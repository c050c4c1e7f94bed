"""The synthesis methods: name in params/ -> module and class. One file each, one of the same name in ``schemas.transfer`` for its
config, one line here, one folder in params/transfer.

A module is imported when its method is loaded, so that a change in one method makes the sets of that method alone stale.
"""

import importlib

from ..runtime.errors import UserError, suggest

REGISTRY = {
    "adi": ("adi", "ADI"),
    "cmi": ("cmi", "CMI"),
    "dafl": ("dafl", "DAFL"),
    "dataset": ("dataset", "RealData"),
    "deepinversion": ("deepinversion", "DeepInversion"),
    "dfad": ("dfad", "DFAD"),
    "dfq": ("dfq", "DFQ"),
    "fast": ("fast", "Fast"),
    "generative": ("generative", "LSGDFD"),
    "mixture": ("mixture", "Mixture"),
    "nayer": ("nayer", "NAYER"),
    "noise": ("noise", "Noise"),
    "procedural": ("procedural", "Procedural"),
    "psaq": ("psaq", "PSAQ"),
    "single-image": ("single_image", "SingleImage"),
    "soft-targeted": ("soft_targeted", "SoftTargeted"),
    "ssd-kd": ("ssd_kd", "SSDKD"),
    "zskd": ("zskd", "ZSKD"),
    "zskt": ("zskt", "ZSKT"),
}


def entry(name: str) -> tuple[str, str]:
    """Module and class of a method; raises UserError where there is no such method."""
    if name not in REGISTRY:
        raise UserError(f"method: {name!r} is unknown; {suggest(name, sorted(REGISTRY))}")
    return REGISTRY[name]


def module_of(name: str) -> str:
    """The module (below dfkd_steps) of a method."""
    return f"methods.{entry(name)[0]}"


def config_class(name: str) -> type:
    """The dataclass of a registered method's config; does not import torch, as ``load`` does."""
    module, method_class = entry(name)
    return getattr(importlib.import_module(f"dfkd_steps.schemas.transfer.{module}"), f"{method_class}Config")


def unfit_for(name: str, task: str) -> str:
    """Why a method is not for teachers of a task; '' where it is. Does not import torch."""
    fitting = config_class(name).tasks
    return "" if task in fitting else f"is for {' and '.join(fitting)}, but the teacher is for {task}"


def refusal(name: str, task: str) -> str:
    """``unfit_for`` with the remedy."""
    fitting = [other for other in sorted(REGISTRY) if task in config_class(other).tasks]
    return (fault := unfit_for(name, task)) and f"{fault}; use one of {', '.join(fitting)}"


def load(name: str):
    """The class of a registered method; its config is the attribute ``Config``."""
    return getattr(importlib.import_module(f"dfkd_steps.{module_of(name)}"), entry(name)[1])
