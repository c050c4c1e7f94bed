"""Networks of torchvision, timm or a factory, built by name."""

import importlib
import os
import sys

import torchvision
from torch import nn

from ..runtime.errors import UserError, one_line, similar

# All that a stored network may hand to a library's builder, true or false each. Others could fetch or unpickle files
# (timm: checkpoint_path, pretrained_cfg), and a network file may be a stranger's.
ARGUMENTS = ("aux_logits", "transform_input", "init_weights")


def build(description) -> nn.Module:
    """The bare network of a foreign description, without its weights (nothing is downloaded)."""
    if description.builder == "factory":
        return _factory(description.name, description.num_classes)
    if description.builder not in ("torchvision", "timm"):
        raise UserError(f"network {description.name}: builder {description.builder[:40]!r} is unknown; make the file again")
    if refused := [name for name, value in description.arguments.items() if name not in ARGUMENTS or not isinstance(value, bool)]:
        raise UserError(f"network {description.name}: argument {refused[0][:40]!r} is not allowed in a file; import it again")
    return create(description.builder, description.name, num_classes=description.num_classes, **description.arguments)


def _factory(name: str, num_classes: int) -> nn.Module:
    package, _, function = name.partition(":")
    if not package or not function:
        raise UserError(f"teacher: factory: {name!r} is not package.module:function; write it so")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(package), function)(num_classes=num_classes)
    except Exception as error:  # the factory is the user's code: whatever it raises is the user's to mend
        raise UserError(
            f"teacher: factory: {name!r} failed: {type(error).__name__}: {one_line(error, 140)}; mend it, or the name"
        ) from None
    if not isinstance(made, nn.Module):
        raise UserError(f"teacher: factory: {name!r} returned a {type(made).__name__}, not a torch.nn.Module; return the network")
    return made


def classes_of(config) -> int:
    """How many classes the named weights know; nothing is downloaded."""
    if config.library == "timm":
        if config.weights != "DEFAULT":
            raise UserError(f"teacher: weights: {config.weights!r} is unknown for timm; write DEFAULT and a name like NAME.TAG")
        found = _timm(config.name).get_pretrained_cfg(config.name)
        if found is None or not found.has_weights:
            raise UserError(
                f"teacher: timm has no weights for {config.name!r}; set weights: '' for random ones, or import a checkpoint"
            )
        return found.num_classes
    known = torchvision.models.get_model_weights(_torchvision(config.name))
    if config.weights not in known.__members__:
        raise UserError(
            f"teacher: weights: {config.weights!r} is unknown for {config.name}; known: {', '.join(known.__members__)}, ''"
        )
    return len(known[config.weights].meta["categories"])


def create(library: str, name: str, weights: str = "", **arguments):
    """A network of torchvision or timm; ``arguments`` (num_classes among them) go to the library's own builder."""
    if library == "timm":
        return _timm(name).create_model(name, pretrained=bool(weights), **arguments)
    return torchvision.models.get_model(_torchvision(name), weights=weights or None, **arguments)


def _torchvision(name) -> str:
    """``name``, if torchvision has such a classification model."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(f"teacher: name: torchvision has no classification model {name!r}; known: {similar(name, known)}")
    return name


def _timm(name):
    """The module timm, if it is installed and has such a model."""
    try:
        import timm
    except ImportError:
        raise UserError("teacher: library: timm is not installed; run pip install 'dfkd[timm]'") from None
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise UserError(f"teacher: name: timm has no model {name!r}; known: {similar(base, timm.list_models())}")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise UserError(f"teacher: name: timm's {base} has no weights {tag!r}; known: {similar(tag, tags)}")
    return timm
