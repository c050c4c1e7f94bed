"""Networks that were not trained here: checkpoints for an architecture or a factory, ONNX files, torchvision, timm."""

import dataclasses
import importlib
import itertools
from pathlib import Path

import torch

from ..runtime import progress
from ..runtime.errors import UserError, let_through, one_line
from . import head, names, tasks
from .checkpoint_file import read_weights
from .classifier import Classifier, Description, build_network
from .library import RESCALING, as_teacher, build, classes_of, create, data_config

PREFIXES = ("model.", "net.", "network.", "module.", "_orig_mod.")  # of Lightning modules, nn.DataParallel and torch.compile
COUNTED = ("total_ops", "total_params")  # what thop adds to each module of a network when it counts operations
NAMED = 8  # keys that an error line names before it counts


def import_checkpoint(config, dataset) -> Classifier:
    """The network of a ``groups.ImportTeacher``; raises UserError where anything does not fit."""
    path = Path(config.checkpoint)
    if names.is_onnx(config.checkpoint):
        onnx_import = importlib.import_module("dfkd_steps.models.onnx_import")
        return onnx_import.read(path, config.sha256, describe(config, dataset, "onnx", path.name), dataset.keep)
    weights = renamed(read_weights(path, config.sha256), config.rename, path)
    builder, name = names.split(config.arch) if config.arch else (names.FACTORY, config.factory)
    dense = dataset.task == tasks.SEGMENTATION
    known = data_config(builder, name) if builder in names.LIBRARIES and not dense else None
    description = describe(config, dataset, builder, name, known)
    if builder == "torchvision" and name in RESCALING and not dense:
        description = _rescaling(description, weights, known, given=bool(_given(config, dataset)[0]))
    net = build_network(description)
    weights = _unprefixed(weights, state := net.state_dict(), path)
    if dense:  # torchvision's networks have a second head for their training, which a factory's may have too
        weights = {key: value for key, value in weights.items() if key in state or "aux_classifier." not in key}
    whole = None
    if dataset.keep:
        weights, whole = head.cut(weights, description, dataset.keep, str(path))
    _load(net, weights, path, description)
    return as_teacher(net, description, whole)


def import_library(config, dataset) -> Classifier:
    """The network of a ``groups.LibraryTeacher``, with the weights of that library."""
    if not config.weights:
        description = describe(config, dataset, config.library, config.name)
        return as_teacher(build(description), description)
    if dataset.task == tasks.SEGMENTATION:
        raise UserError(
            f"teacher: weights: {config.weights} of {config.name} cannot be used for segmentation here; set weights: '' for "
            "random ones, import a checkpoint, or train with kind: train"
        )
    count = classes_of(config)
    description = describe(config, dataset, config.library, config.name, data_config(config.library, config.name, config.weights))
    if not dataset.keep and count != description.num_classes:
        raise UserError(
            f"teacher: weights {config.weights} of {config.name} have {count} classes, but {dataset.path} has "
            f"{description.num_classes}; choose other weights, or list the classes to use (keep)"
        )
    try:
        net = create(config.library, config.name, description, weights=config.weights)
    except (OSError, RuntimeError) as error:  # no network; a broken download
        let_through(error)
        raise UserError(
            f"teacher: weights of {config.library} model {config.name} cannot be downloaded ({one_line(error, 140)}); "
            "check the network, or import a checkpoint"
        ) from None
    if config.library == "torchvision" and hasattr(net, "transform_input"):
        # GoogLeNet and Inception are built otherwise where weights are given, and their weights do not tell.
        arguments = {"aux_logits": net.aux_logits, "transform_input": net.transform_input, "init_weights": False}
        description = dataclasses.replace(description, arguments=arguments)
    whole = None
    if dataset.keep:
        weights, whole = head.cut(net.state_dict(), description, dataset.keep, f"{config.library}'s {config.name}")
        net = build(description)
        net.load_state_dict(weights)
    return as_teacher(net, description, whole)


def describe(config, dataset, builder: str, name: str, known=None) -> Description:
    """The description of an imported network. ``known``: a ``library.DataConfig``, what its library says of it.

    The normalisation is the config's, else the card's, else the library's, else that of the data set's images.
    """
    mean, std = _given(config, dataset)
    if not mean:
        mean, std = (known.mean, known.std) if known else (dataset.mean, dataset.std)
    channels = dataset.image_shape[0]
    if not mean:
        raise UserError(
            f"teacher: neither its config nor {dataset.path} gives mean and std; give those that it was trained with, "
            "in the teacher's file or the card's (mean: [0.0] and std: [1.0], one per channel, if it takes images in [0,1] as "
            "they are)"
        )
    if len(mean) != channels:
        raise UserError(
            f"teacher: mean and std have {len(mean)} values, but images of {dataset.path} have {channels} channels; give "
            f"{channels}"
        )
    classes = dataset.classes
    if dataset.task == tasks.SEGMENTATION and len(classes) > tasks.MOST_CLASSES:  # of a card: maps say more of themselves
        raise UserError(f"{dataset.path}: has {len(classes)} classes, but maps have a byte for each pixel; give at most "
                        f"{tasks.MOST_CLASSES}")  # fmt: skip
    if known and known.names and not dataset.has_names and (dataset.keep or len(known.names) == len(classes)):
        kept = dataset.keep or range(len(classes))
        classes = tuple(known.names[number] for number in kept) if max(kept) < len(known.names) else classes
    progress.say(f"teacher: normalises with mean {mean} and std {std}")
    return Description(builder, name, classes, dataset.image_shape, mean, std, task=dataset.task)


def _given(config, dataset):
    """Mean and std of the config, else of the card; without values where neither has them."""
    if config.mean:
        return tuple(config.mean), tuple(config.std)
    return ((), ()) if dataset.has_images else (dataset.mean, dataset.std)


def _rescaling(description, weights, known, given: bool) -> Description:
    """The description of torchvision's GoogLeNet or Inception, as it has to be built for these weights.

    torchvision's own were trained on images that the network itself scales to mean and std 0.5 (transform_input), after the
    normalisation that the library names: so the one goes with the other. ``given``: the user or the card has its mean and std.
    """
    alike = (description.mean, description.std) == (known.mean, known.std)
    if not given:
        progress.say(
            f"teacher: {description.name} scales its inputs once more, as for torchvision's own weights (transform_input); give "
            "mean and std if it was trained without"
        )
    elif alike:
        progress.say(
            f"teacher: WARNING: mean and std are given, so {description.name} does not scale its inputs once more "
            "(transform_input), but torchvision's own weights need that; remove mean and std for these"
        )
    auxiliary = any("aux" in key.lower() for key in weights)  # torchvision drops these heads of GoogLeNet's own weights
    return dataclasses.replace(
        description, arguments={"aux_logits": auxiliary, "transform_input": not given, "init_weights": False}
    )


def renamed(weights, rename: list[str], path) -> dict[str, torch.Tensor]:
    """The weights by other names: OLD=NEW replaces OLD, a part of a name between dots, or several, by NEW; by nothing if empty.

    Raises UserError where OLD is in no name, or where two names become the same.
    """
    for entry in rename:
        old, _, new = entry.partition("=")
        changed = {key: f".{key}.".replace(f".{old}.", f".{new}." if new else ".").strip(".") for key in weights}
        if all(key == other for key, other in changed.items()):
            first = next(iter(weights))
            raise UserError(f"{path}: rename: {entry}: no weight has {old!r} in its name (the first is {first}); correct it")
        given = sorted(changed.values())
        if twice := next((name for name, other in itertools.pairwise(given) if name == other), None):
            raise UserError(f"{path}: rename: {entry}: gives two weights the name {twice}; correct it")
        weights = {changed[key]: value for key, value in weights.items()}
    return weights


def _names_apart(weights, state) -> list[str]:
    """What ``rename`` would have to say for weights that have the network's shapes in the network's order; [] where no list of
    it makes them fit."""
    weights, state = (
        {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")} for tensors in (weights, state)
    )
    if [value.shape for value in weights.values()] != [value.shape for value in state.values()]:
        return []
    other, before = {}, {key.removesuffix(f".{name}") for key, name in zip(weights, state) if key.endswith(f".{name}")}
    for key, name in zip(weights, state):
        parts, right = key.split("."), name.split(".")
        if len(parts) == len(right):
            other |= {old: new for old, new in zip(parts, right) if old != new}
    rename = [f"{old}={new}" for old, new in sorted(other.items())]
    if not rename and len(before) == 1:  # a wrapper of theirs
        rename = [f"{before.pop()}="]
    try:
        return rename if renamed(weights, rename, "").keys() == state.keys() else []
    except UserError:
        return []


def _unprefixed(weights, state, path):
    """The weights by the names that the network has for them, where wrappers put something before these; not thop's counts."""
    counts = [key for key in weights if key.rpartition(".")[2] in COUNTED and key not in state]
    if counts:
        progress.say(f"{path}: {len(counts)} tensors {' and '.join(COUNTED)}, which thop adds, are ignored")
        weights = {key: value for key, value in weights.items() if key not in counts}
    forms = [weights]
    for _ in range(3):
        for form in forms:
            if not _missing(form, state):
                if left := len(weights) - len(form):
                    progress.say(f"{path}: {left} tensors that are not part of the network (of a loss or a metric?) are ignored")
                return form
        forms = [_below(prefix, form) for form in forms for prefix in PREFIXES if _below(prefix, form)]
    return weights


def _below(prefix: str, weights) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _missing(weights, state) -> list[str]:
    """Checkpoints from before PyTorch 0.4.1 do not count batches; nothing here reads that count."""
    return [key for key in state if key not in weights and not key.endswith("num_batches_tracked")]


def _load(net, weights, path, description):
    state = net.state_dict()
    missing = _missing(weights, state)
    unexpected = [key for key in weights if key not in state]
    other = {key: (tuple(weights[key].shape), tuple(state[key].shape)) for key in state if key in weights}
    other = {key: (shape, needed) for key, (shape, needed) in other.items() if shape != needed}
    heads = {shape[0] if shape and needed == (description.num_classes, *shape[1:]) else None for shape, needed in other.values()}
    if not missing and not unexpected and len(heads) == 1 and None not in heads:
        raise UserError(
            f"{path}: has {heads.pop()} classes, but the data set has {description.num_classes}; choose the data set it was "
            f"trained on{'' if description.dense else ', or list the classes to use in its config (keep)'}"
        )
    shapes = [f"{key} {shape} instead of {needed}" for key, (shape, needed) in other.items()]
    faults = [
        f"{title}: {', '.join(keys[:NAMED])}" + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")
        for title, keys in (("missing", missing), ("unexpected", unexpected), ("other shape", shapes))
        if keys
    ]
    if faults:
        if same := _of_a_library(weights, description):
            raise UserError(f"{path}: is {same}, a different network from our {description.name}; write arch: {same}")
        remedy = "choose the architecture it was trained as"
        if shapes and not missing and not unexpected:  # positions and windows of a transformer, of another size of image
            remedy += ", or images of the size it was trained on"
        if missing and _reparameterised(net, weights, description):
            merged = f"reparameterize_model(timm.create_model({description.name!r}, num_classes=num_classes))"
            remedy = f"timm.utils.reparameterize_model merged its layers: give a factory that returns {merged}, or export ONNX"
        if rename := _names_apart(weights, state):
            listed = f"rename: [{', '.join(rename)}] (dfkd new: --rename {','.join(rename)})"
            remedy = f"its weights have the right shapes in the right order, so set {listed}"
        raise UserError(f"{path}: does not fit {description.name}; {'; '.join(faults)}; {remedy}")
    net.load_state_dict(weights, strict=False)  # strict but for the count of batches: checked above


def _reparameterised(net, weights, description) -> bool:
    """Do the weights have the names of timm's network after its layers were merged for inference, as RepVGG's are?"""
    if description.builder != "timm":
        return False
    from timm.utils import reparameterize_model

    return reparameterize_model(net).state_dict().keys() == weights.keys()


def _of_a_library(weights, description) -> str | None:
    """The network of a library that the weights fit, of the same name as the one of ours that they do not fit."""
    for library in names.LIBRARIES if description.builder == "arch" else ():
        if description.name in names.in_library(library):
            with torch.device("meta"):
                state = create(library, description.name, description).state_dict()
            # But for the first dimension, which is the number of classes in the last layer.
            alike = (value.shape[1:] == weights[key].shape[1:] for key, value in state.items() if key in weights)
            if not _missing(weights, state) and all(alike):
                return names.spelled(library, description.name)
    return None
