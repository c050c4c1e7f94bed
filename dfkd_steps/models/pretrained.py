"""Networks that were not trained here: checkpoints for our architectures or for a factory, torchvision, timm."""

import dataclasses
import hashlib
import pickle
import re
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..runtime.errors import UserError, one_line, reading
from .classifier import Description, build_network
from .library import build, classes_of, create

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.")  # of nn.DataParallel and torch.compile
NAMED = 8  # keys that an error line names before it counts


def import_checkpoint(config, dataset):
    """The network and description of a ``groups.ImportTeacher``; raises UserError where anything does not fit."""
    path = Path(config.checkpoint)
    weights = read_weights(path, config.sha256)
    builder, name = ("arch", config.arch) if config.arch else ("factory", config.factory)
    description = _describe(config, dataset, builder, name)
    net = build_network(description)
    _load(net, weights, path, description)
    return _checked(net, description)


def import_library(config, dataset):
    """The network and description of a ``groups.LibraryTeacher``, with the weights of that library."""
    description = _describe(config, dataset, config.library, config.name)
    if not config.weights:
        return _checked(build(description), description)
    known = classes_of(config)
    if known != description.num_classes:
        raise UserError(
            f"teacher: weights {config.weights} of {config.name} know {known} classes, {dataset.path} has "
            f"{description.num_classes}; choose other weights"
        )
    try:
        net = create(config.library, config.name, weights=config.weights)
    except (OSError, RuntimeError) as error:  # no network; a broken download
        raise UserError(
            f"teacher: weights of {config.library} model {config.name} cannot be fetched ({one_line(error, 140)}); connect, or "
            "import a checkpoint"
        ) from None
    if config.library == "torchvision" and hasattr(net, "transform_input"):
        # GoogLeNet and Inception are built otherwise where weights are given, and their weights do not tell.
        arguments = {"aux_logits": net.aux_logits, "transform_input": net.transform_input, "init_weights": False}
        description = dataclasses.replace(description, arguments=arguments)
    return _checked(net, description)


def read_weights(path: Path, sha256: str = "") -> dict[str, torch.Tensor]:
    """The weights in a .safetensors file, or in a PyTorch checkpoint read without running any code of it.

    They may lie under ``state_dict`` or the like, and their names may start with ``module.``.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; set checkpoint: to a file (relative to the working directory)")
    if sha256 and (found := _sha256(path)) != sha256.lower():
        raise UserError(f"{path}: its sha256 is {found}, expected {sha256}; fetch the right file or change sha256:")
    with reading(path, "is no readable checkpoint", "fetch it again"):
        content = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    for _ in WRAPPERS:  # no deeper: a dictionary can hold itself
        inner = next((key for key in WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)), None)
        content = content[inner] if inner else content
    if not isinstance(content, dict) or not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(
            f"{path}: holds no weights (a dictionary of tensors, perhaps under {', '.join(WRAPPERS)}); save net.state_dict()"
        )
    content = {str(key): value for key, value in content.items()}
    for key, value in content.items():
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise UserError(f"{path}: {key[:60]!r} is sparse, quantised or without values; save it as a plain tensor")
    while prefix := next((one for one in PREFIXES if all(key.startswith(one) for key in content)), ""):
        content = {key.removeprefix(prefix): value for key, value in content.items()}
    return content


def _unpickled(path):
    """A PyTorch checkpoint; no code of it runs, and it takes no more memory than its own size."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(one.file_size for one in archive.infolist()) > path.stat().st_size:
                raise UserError(f"{path}: is compressed, as torch.save leaves no checkpoint; unpack it and save it again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        fault = f"holds pickled code ({named[1]}), refused" if named else "is damaged, or holds pickled code, which is refused"
        raise UserError(f"{path}: {fault}; save the weights alone: torch.save(net.state_dict(), FILE)") from None


def _load(net, weights, path, description):
    wanted = net.state_dict()
    # Checkpoints from before PyTorch 0.4.1 do not count batches; nothing here reads that count.
    missing = [key for key in wanted if key not in weights and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in weights if key not in wanted]
    other = {key: (tuple(weights[key].shape), tuple(wanted[key].shape)) for key in wanted if key in weights}
    other = {key: (found, needed) for key, (found, needed) in other.items() if found != needed}
    heads = {found[0] if found and needed == (description.num_classes, *found[1:]) else None for found, needed in other.values()}
    if not missing and not unexpected and len(heads) == 1 and None not in heads:
        raise UserError(
            f"{path}: knows {heads.pop()} classes, the data set has {description.num_classes}; choose the data set it was "
            "trained on"
        )
    shapes = [f"{key} {found} instead of {needed}" for key, (found, needed) in other.items()]
    faults = [
        f"{title}: {', '.join(keys[:NAMED])}" + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")
        for title, keys in (("missing", missing), ("unexpected", unexpected), ("other shape", shapes))
        if keys
    ]
    if faults:
        raise UserError(
            f"{path}: does not fit {description.name}; {'; '.join(faults)}; choose the architecture it was trained as"
        )
    net.load_state_dict(weights, strict=False)  # strict but for the count of batches: checked above


def _describe(config, dataset, builder, name):
    channels = dataset.image_shape[0]
    mean, std = tuple(config.mean) or dataset.mean, tuple(config.std) or dataset.std
    if len(mean) != channels:
        raise UserError(
            f"teacher: mean and std have {len(mean)} values, but images of {dataset.path} have {channels} channels; give "
            f"{channels}"
        )
    return Description(builder, name, dataset.classes, dataset.image_shape, mean, std)


def _checked(net, description):
    """Does the network take the images and give as many logits as there are classes? Then it and its description."""
    net.eval()
    try:
        with torch.no_grad():
            logits = net(torch.zeros(1, *description.image_shape))
    except Exception as error:  # the network is not ours: libraries assert, index and raise what they like
        shape = "x".join(map(str, description.image_shape))
        raise UserError(
            f"teacher: {description.name} does not take images of {shape} ({one_line(error, 140)}); "
            "choose another data set or network"
        ) from None
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, description.num_classes):
        found = tuple(logits.shape)[1:] if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(
            f"teacher: {description.name} gives logits {found}, but the data set has {description.num_classes} classes; "
            "choose the data set it was trained on"
        )
    if not torch.isfinite(logits).all():
        raise UserError(
            f"teacher: {description.name} gives logits that are not finite; its weights are damaged, fetch them again"
        )
    return net, description


def _sha256(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
