"""How a network is named, in YAML and in a path: NAME of ours, torchvision.NAME, timm.NAME, smp.NAME.ENCODER (of
segmentation-models-pytorch) or factory.MODULE.FUNCTION.

No colon, because a value in a path has none. What a library has is read in its source: importing torchvision takes seconds,
and names are checked before anything runs.
"""

import functools
import importlib.util
import re
from pathlib import Path

from . import registry

LIBRARIES = ("torchvision", "timm")
SMP, FACTORY = "smp", "factory"
REGISTERED = re.compile(r"^@register_model\b(?:.|\n)*?^def (\w+)\(", re.MULTILINE)


def split(name: str) -> tuple[str, str]:
    """The builder ('arch', 'torchvision', 'timm', 'smp', 'factory') and the name that it takes: for a factory MODULE:FUNCTION."""
    builder, _, rest = name.partition(".")
    if builder == FACTORY:
        return builder, ":".join(rest.rsplit(".", 1))
    return (builder, rest) if builder in (*LIBRARIES, SMP) else ("arch", name)


def spelled(builder: str, name: str) -> str:
    """The inverse of ``split``."""
    return name if builder == "arch" else f"{builder}.{name.replace(':', '.')}"


def is_onnx(checkpoint: str) -> bool:
    """Is a checkpoint an ONNX file, by its name?"""
    return checkpoint.lower().endswith(".onnx")


def code_of(name: str) -> str | tuple[str, str]:
    """The module that builds a network, with what it is called with where it is ours."""
    return registry.code_of(name) if split(name)[0] == "arch" else "models.library"


def code_of_checkpoint(checkpoint: str) -> str:
    """The module that reads a checkpoint."""
    return "models.onnx_import" if is_onnx(checkpoint) else "models.pretrained"


@functools.cache
def in_library(library: str) -> tuple[str, ...]:
    """The classification models of an installed library, sorted; none where it is not installed."""
    package = importlib.util.find_spec(library)
    if package is None or not package.origin:
        return ()
    texts = (path.read_text("utf-8", "replace") for path in Path(package.origin).with_name("models").glob("*.py"))
    return tuple(sorted({name for text in texts for name in REGISTERED.findall(text)}))


@functools.cache
def for_segmentation(library: str) -> tuple[str, ...]:
    """The segmentation models of an installed library, sorted, as far as its source tells."""
    package = importlib.util.find_spec({SMP: "segmentation_models_pytorch"}.get(library, library))
    if package is None or not package.origin or library == "timm":
        return ()
    if library == SMP:
        folders = Path(package.origin).with_name("decoders")
        return tuple(sorted(path.name for path in folders.iterdir() if (path / "model.py").is_file()))
    texts = (path.read_text("utf-8", "replace") for path in Path(package.origin).with_name("models").glob("segmentation/*.py"))
    return tuple(sorted({name for text in texts for name in REGISTERED.findall(text)}))


class Networks:
    """The names that a network may have, as ``choices`` of a field: lists ours, and holds all."""

    extra: tuple[str, ...] = ()

    def __iter__(self):
        return iter((*self.extra, *registry.names()))

    def __len__(self):
        return len(list(iter(self)))

    def __contains__(self, name):
        if name in self.extra:
            return True
        builder, rest = split(name)
        if builder == FACTORY:
            return re.fullmatch(r"\w+(\.\w+)*:\w+", rest) is not None
        if builder == SMP:
            return re.fullmatch(r"[a-z]\w*\.[\w.-]+", rest) is not None
        if builder == "torchvision" and rest in for_segmentation(builder):
            return True
        return rest in (registry.REGISTRY if builder == "arch" else in_library(builder))

    def like(self, name: str) -> list[str]:
        """What to list for a wrong name: the names of the library that it seems to mean, else ours."""
        builder = re.split(r"[.:]", name)[0]
        if builder in LIBRARIES:
            listed = [f"{builder}.{model}" for model in (*in_library(builder), *for_segmentation(builder))]
            return listed or [f"{builder} is not installed (pip install 'dfkd[timm]')"]
        return [*self, "torchvision.NAME", "timm.NAME", "smp.NAME.ENCODER", "factory.MODULE.FUNCTION"]


class NetworksOrNone(Networks):
    """The same, and none."""

    extra = ("",)
