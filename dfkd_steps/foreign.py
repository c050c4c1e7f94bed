"""Networks that were not trained here: checkpoints for our architectures or for a factory, torchvision, timm."""

import hashlib
import importlib
import os
import pickle
import sys
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from . import networks
from .errors import UserError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
NAMED = 6  # keys that an error line names before it counts


def import_checkpoint(config, dataset):
    """The network and description of a ``groups.ImportTeacher``; raises UserError where anything does not fit."""
    path = Path(config.checkpoint)
    weights = read_weights(path, config.sha256)
    builder, name = ("arch", config.arch) if config.arch else ("factory", config.factory)
    description = _describe(config, dataset, builder, name)
    net = networks.build_net(description)
    _load(net, weights, path, name)
    return _checked(net, description)


def import_library(config, dataset):
    """The network and description of a ``groups.LibraryTeacher``, with the weights of that library."""
    description = _describe(config, dataset, config.library, config.name)
    if not config.weights:
        return _checked(build(description), description)
    try:
        net = _library_model(config.library, config.name, weights=config.weights)
    except OSError as error:
        raise UserError(f"teacher: weights of {config.library} model {config.name} cannot be fetched ({_line(error)}); connect, or import a checkpoint") from None
    return _checked(net, description)


def build(description) -> nn.Module:
    """The bare network of a foreign description, without its weights (nothing is downloaded)."""
    if description.builder == "factory":
        return _factory(description.name, description.num_classes)
    return _library_model(description.builder, description.name, num_classes=description.num_classes)


def read_weights(path: Path, sha256: str = "") -> dict[str, torch.Tensor]:
    """The weights in a .safetensors file, or in a PyTorch checkpoint read without running any code of it.

    They may lie under ``state_dict`` or the like, and their names may start with ``module.``.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; set checkpoint: to a file (relative to the working directory)")
    if sha256 and (found := _sha256(path)) != sha256:
        raise UserError(f"{path}: its sha256 is {found}, expected {sha256}; fetch the right file or change sha256:")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path}: holds more than weights (pickled code), refused; save the state_dict alone: torch.save(net.state_dict(), FILE)") from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path}: is no readable checkpoint ({_line(error)}); fetch it again") from None
    while isinstance(content, dict) and (inner := next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)):
        content = content[inner]
    if not isinstance(content, dict) or not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no weights (a dictionary of tensors, perhaps under {', '.join(WRAPPERS)}); save net.state_dict()")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _load(net, weights, path, name):
    wanted = net.state_dict()
    # Checkpoints from before PyTorch 0.4.1 do not count batches; nothing here reads that count.
    missing = [key for key in wanted if key not in weights and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in weights if key not in wanted]
    shapes = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in weights and weights[key].shape != wanted[key].shape
    ]
    faults = [
        f"{title}: {', '.join(keys[:NAMED])}" + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")
        for title, keys in (("missing", missing), ("unexpected", unexpected), ("other shape", shapes))
        if keys
    ]
    if faults:
        raise UserError(f"{path}: does not fit {name}; {'; '.join(faults)}; choose the architecture it was trained as")
    net.load_state_dict(weights, strict=False)


def _describe(config, dataset, builder, name):
    channels = dataset.image_shape[0]
    mean, std = tuple(config.mean) or dataset.mean, tuple(config.std) or dataset.std
    if len(mean) != channels:
        raise UserError(f"teacher: mean and std have {len(mean)} values, but images of {dataset.path} have {channels} channels; give {channels}")
    return networks.Description(builder, name, dataset.classes, dataset.image_shape, mean, std)


def _checked(net, description):
    """Does the network take the images and give as many logits as there are classes? Then it and its description."""
    net.eval()
    try:
        with torch.no_grad():
            logits = net(torch.zeros(1, *description.image_shape))
    except RuntimeError as error:
        raise UserError(f"teacher: {description.name} does not take images {tuple(description.image_shape)} ({_line(error)}); choose another data set or network") from None
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, description.num_classes):
        found = tuple(logits.shape)[1:] if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(f"teacher: {description.name} gives logits {found}, but the data set has {description.num_classes} classes; choose the data set it was trained on")
    return net, description


def _factory(name: str, num_classes: int) -> nn.Module:
    package, _, function = name.partition(":")
    if not package or not function:
        raise UserError(f"teacher: factory: {name!r} is not package.module:function; write it so")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(package), function)(num_classes=num_classes)
    except Exception as error:  # the factory is the user's code: whatever it raises is the user's to mend
        raise UserError(f"teacher: factory: {name!r} failed: {type(error).__name__}: {_line(error)}; mend it, or the name") from None
    if not isinstance(made, nn.Module):
        raise UserError(f"teacher: factory: {name!r} returned a {type(made).__name__}, not a torch.nn.Module; return the network")
    return made


def _library_model(library: str, name: str, num_classes: int | None = None, weights: str = ""):
    if library == "timm":
        return _timm_model(name, num_classes, bool(weights))
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise UserError(f"teacher: name: torchvision has no classification model {name!r}; known: python -c 'import torchvision; print(torchvision.models.list_models())'")
    try:
        return torchvision.models.get_model(name, weights=weights or None, **({"num_classes": num_classes} if num_classes else {}))
    except KeyError:
        known = ", ".join(one.name for one in torchvision.models.get_model_weights(name))
        raise UserError(f"teacher: weights: {weights!r} is unknown for {name}; known: {known}, DEFAULT, ''") from None


def _timm_model(name, num_classes, pretrained):
    try:
        import timm
    except ImportError:
        raise UserError("teacher: library: timm is not installed; run pip install 'dfkd[timm]'") from None
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name}*")[:NAMED]) or "none like it"
        raise UserError(f"teacher: name: timm has no model {name!r}; it has {close}")
    return timm.create_model(name, pretrained=pretrained, **({"num_classes": num_classes} if num_classes else {}))


def _sha256(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(error) -> str:
    return " ".join(str(error).split())[:140]
