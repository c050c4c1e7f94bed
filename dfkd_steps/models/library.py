"""Networks of torchvision, timm, segmentation-models-pytorch or a factory, built by name."""

import contextlib
import dataclasses
import functools
import random
import types
from dataclasses import dataclass

import numpy as np
import torch
import torchvision
from torch import nn

from ..runtime import factory
from ..runtime.errors import UserError, similar
from . import names, segmentation_library, trial
from .classifier import Classifier

# All that a stored network may hand to a library's builder, true or false each. Others could fetch or unpickle files
# (timm: checkpoint_path, pretrained_cfg), and a network file may be a stranger's.
ARGUMENTS = ("aux_logits", "transform_input", "init_weights")
# Of torchvision, which take these: they have outputs for a loss of their own, and may scale their inputs once more.
RESCALING = ("googlenet", "inception_v3")


def build(description) -> nn.Module:
    """The bare network of a foreign description, without its weights (nothing is downloaded)."""
    if description.builder == "factory":
        return _factory(description.name, description.num_classes)
    if description.dense:
        return segmentation_library.build(description)
    if description.builder == names.SMP:
        raise UserError(f"network smp.{description.name}: is for segmentation, but the task is classification; use a classifier")
    if description.builder not in ("torchvision", "timm"):
        raise UserError(f"network {description.name}: builder {description.builder[:40]!r} is unknown; make the file again")
    if refused := [name for name, value in description.arguments.items() if name not in ARGUMENTS or not isinstance(value, bool)]:
        raise UserError(f"network {description.name}: argument {refused[0][:40]!r} is not allowed in a file; import it again")
    return create(description.builder, description.name, description, **description.arguments)


def new(description) -> Classifier:
    """A fresh network of a foreign description that says no arguments, as a student or a teacher to be trained takes it.

    Raises UserError where it does not take the images, or gives other than a logit for each class.
    """
    if description.builder == "torchvision" and description.name in RESCALING:
        # Their second outputs are for a loss of their own; the default of init_weights warns that it will change.
        description = dataclasses.replace(description, arguments={"aux_logits": False, "init_weights": True})
    classifier = Classifier(trial.require_fit(build(description), description, "network"), description)
    if description.builder == names.FACTORY:
        again = build(description)
        if not {id(value) for value in again.parameters()}.isdisjoint(map(id, classifier.parameters())):
            raise UserError(
                f"network: {description.name} returns a network with the weights of the one before; build a new one in each call"
            )
        trained = Classifier(again, description)
        trial.require_trainable(trained)
        trial.require_kept(trained, functools.partial(build, description), "network")
    return classifier


def as_teacher(net: nn.Module, description, whole=None) -> Classifier:
    """An imported network, in eval mode, with what it was before it was cut (None where it was not); UserError where it does not
    fit its description."""
    classifier = Classifier(trial.require_fit(net, description, "teacher"), description).eval()
    classifier.whole = whole
    if description.builder == names.FACTORY:
        trial.require_kept(classifier, functools.partial(build, description), "teacher")
    return classifier


@contextlib.contextmanager
def _drawn_by_seed():
    """Code of the user's may draw weights by numpy or Python: from torch's seed too, and what draws by these later does not see
    that it did."""
    before = np.random.get_state(), random.getstate()
    np.random.seed(torch.initial_seed() % 2**32)
    random.seed(torch.initial_seed())
    try:
        yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])


def _factory(name: str, num_classes: int) -> nn.Module:
    with _drawn_by_seed():
        function = factory.load(name)
        net = factory.call(name, "factory", lambda: function(num_classes=num_classes))
    if not isinstance(net, nn.Module):
        raise UserError(f"factory: {name!r} returned a {type(net).__name__}, not a torch.nn.Module; return the network")
    return _taking_tensors(net)


@dataclass(frozen=True)
class DataConfig:
    """What a library says of its network: classes (their names, if it has them), normalisation, height and width it likes."""

    classes: int
    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]


def data_config(library: str, name: str, weights: str = "") -> DataConfig | None:
    """What the library says of a network with ``weights`` ('' = its default ones); None where it says nothing.

    Nothing is downloaded.
    """
    if library == "timm":
        cfg = _timm(name).get_pretrained_cfg(name)
        if cfg is None:
            return None
        names = tuple(cfg.label_names or _imagenet_names(cfg.num_classes))
        return DataConfig(cfg.num_classes, names, tuple(cfg.mean), tuple(cfg.std), tuple(cfg.input_size[1:]))
    known = torchvision.models.get_model_weights(_torchvision(name))
    if not len(known):
        return None
    chosen = known[weights or "DEFAULT"]
    transform, names = chosen.transforms(), tuple(chosen.meta["categories"])
    size = transform.crop_size[0]
    return DataConfig(len(names), names, tuple(transform.mean), tuple(transform.std), (size, size))


def _imagenet_names(count: int) -> tuple[str, ...]:
    """ImageNet's thousand, in the order that torchvision and timm share; of other sets timm has no names."""
    return tuple(torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]) if count == 1000 else ()


def classes_of(config) -> int:
    """How many classes the named weights know; nothing is downloaded."""
    if config.library == "timm":
        if config.weights != "DEFAULT":
            raise UserError(f"teacher: weights: {config.weights!r} is unknown for timm; write DEFAULT and a name like NAME.TAG")
        cfg = _timm(config.name).get_pretrained_cfg(config.name)
        if cfg is None or not cfg.has_weights:
            raise UserError(
                f"teacher: timm has no weights for {config.name!r}; set weights: '' for random ones, or import a checkpoint"
            )
        return cfg.num_classes
    known = torchvision.models.get_model_weights(_torchvision(config.name))
    if config.weights not in known.__members__:
        raise UserError(
            f"teacher: weights: {config.weights!r} is unknown for {config.name}; known: {', '.join(known.__members__)}, ''"
        )
    return len(known[config.weights].meta["categories"])


def create(library: str, name: str, description, weights: str = "", **arguments) -> nn.Module:
    """A network of torchvision or timm for a description's images; with ``weights`` for the classes that these know, else for
    the description's. ``arguments`` go to the library's own builder.
    """
    channels, *size = description.image_shape
    if not weights:
        arguments["num_classes"] = description.num_classes
    if library == "timm":
        timm = _timm(name)
        if getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False):
            arguments["img_size"] = tuple(size)
        return timm.create_model(name, pretrained=bool(weights), in_chans=channels, **arguments)
    if name.startswith("vit_") and size[0] == size[1] and not weights:
        arguments["image_size"] = size[0]
    net = torchvision.models.get_model(_torchvision(name), weights=weights or None, **arguments)
    return _taking_tensors(net if channels == 3 or weights else _with_channels(net, channels))


def _taking_tensors(net: nn.Module) -> nn.Module:
    """The network, taking weights from a file of tensors alone: torchvision's MNASNet refuses those that state no version."""
    for module in net.modules():
        if isinstance(module, torchvision.models.MNASNet):
            module._load_from_state_dict = types.MethodType(_of_this_version, module)
    return net


def _of_this_version(module, weights, prefix, metadata, *rest):
    type(module)._load_from_state_dict(module, weights, prefix, {"version": module._version, **metadata}, *rest)


def _with_channels(net: nn.Module, channels: int) -> nn.Module:
    """torchvision's networks take colour images: for others, the first convolution is replaced."""
    name, old = next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    convolution = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation, bias=old.bias is not None
    )  # fmt: skip
    parent, _, attribute = name.rpartition(".")
    setattr(net.get_submodule(parent), attribute, convolution)
    return net


def _torchvision(name) -> str:
    """``name``, if torchvision has such a classification model."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UserError(f"name: torchvision has no classification model {name!r}; known: {similar(name, known)}")
    return name


def _timm(name):
    """The module timm, if it is installed and has such a model."""
    try:
        import timm
    except ImportError:
        raise UserError("library: timm is not installed; run pip install 'dfkd[timm]'") from None
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise UserError(f"name: timm has no model {name!r}; known: {similar(base, timm.list_models())}")
    tags = [model.partition(".")[2] for model in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise UserError(f"name: timm's {base} has no weights {tag!r}; known: {similar(tag, tags)}")
    return timm
