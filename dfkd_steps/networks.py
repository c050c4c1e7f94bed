"""A network as an artefact: safetensors with the weights, and in its metadata all that is needed to use it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from . import artefact, generators, models, training
from .errors import DAMAGE, UserError, one_line

KIND = "network"
METADATA = "dfkd"


@dataclass(frozen=True)
class Description:
    """What a network is, beside its weights. ``builder``: 'arch' | 'factory' | 'torchvision' | 'timm'."""

    builder: str
    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    arguments: dict = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.classes)


class Classifier(nn.Module):
    """A network that owns its normalisation: images (N,C,H,W) in [0,1] -> logits (N,K)."""

    def __init__(self, net: nn.Module, description: Description):
        super().__init__()
        self.net, self.description = net, description
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(description.mean, dtype=torch.float32).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(description.std, dtype=torch.float32).view(shape), persistent=False)

    def forward(self, images):
        return self.net((images - self.mean) / self.std)


def build_net(description: Description) -> nn.Module:
    """A freshly initialised network of this description; raises UserError where it cannot be built."""
    from . import foreign  # only needed for networks that are not ours, and imports libraries that may be absent

    if description.builder == "arch":
        return models.build(description.name, description.num_classes, description.image_shape)
    return foreign.build(description)


def save(path, net: nn.Module, description: Description, key: str, provenance: dict, **extra):
    """Write weights and metadata; the same content gives the same bytes."""
    content = {"kind": KIND, "key": key, "description": asdict(description), "provenance": provenance, **extra}
    # One entry, because safetensors writes several in random order.
    metadata = {METADATA: json.dumps(content, sort_keys=True)}
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}
    save_file(weights, path, metadata)


def read_metadata(path) -> dict:
    """The metadata of a network's file; raises UserError where it is missing, damaged or not a network of dfkd."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it first (snakemake {path})")
    try:
        with safe_open(path, "pt") as file:
            content = json.loads((file.metadata() or {}).get(METADATA, "{}"))
    except (*DAMAGE, SafetensorError) as error:
        raise UserError(f"{path}: is damaged or no safetensors file ({one_line(error)}); delete it and make it again") from None
    if not isinstance(content, dict) or content.get("kind") != KIND or not isinstance(content.get("description"), dict):
        raise UserError(f"{path}: is no network of dfkd; import it with a teacher of kind import")
    return content


def describe(path) -> Description:
    """The description stored with a network."""
    content = read_metadata(path)["description"]
    return Description(**{name: tuple(value) if isinstance(value, list) else value for name, value in content.items()})


def load(path, device="cpu") -> Classifier:
    """The network with its weights and normalisation, in eval mode, channels_last."""
    description = describe(path)
    net = build_net(description)
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safe_open is no dict)
        net.load_state_dict(weights)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise UserError(f"{path}: weights do not fit {description.name} ({one_line(error, 160)}); make it again") from None
    return Classifier(net, description).to(device, memory_format=torch.channels_last).eval()


def load_frozen(path, device="cpu") -> Classifier:
    """A teacher: ``load``, and no weight takes a gradient."""
    return load(path, device).requires_grad_(False)


def to_plain(network) -> tuple[dict, dict]:
    """A classifier or a generator as (description, {weight: array}), for the file of a transfer set."""
    if isinstance(network, generators.Generator):
        description, inner = {"kind": "generator", **generators.describe(network)}, network
    else:
        description, inner = {"kind": KIND, **asdict(network.description)}, network.net
    return description, {name: value.detach().cpu().numpy() for name, value in inner.state_dict().items()}


def from_plain(description: dict, weights: dict, device="cpu"):
    """What ``to_plain`` took apart, in eval mode and without gradients."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in description.items()}
    weights = {name: torch.from_numpy(np.asarray(value)) for name, value in weights.items()}
    if values.pop("kind") == "generator":
        made = generators.rebuild(values, weights)
    else:
        described = Description(**values)
        made = Classifier(build_net(described), described)
        made.net.load_state_dict(weights)
    return made.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def publish(job: artefact.Job, net, description, history, device):
    """Write history.csv and then the network that vouches for it; both whole."""
    table = training.history_csv(history)
    for out, write in (
        (job.out.with_name("history.csv"), lambda path: path.write_bytes(table)),
        (
            job.out,
            lambda path: save(path, net, description, job.key, job.provenance(device), history_sha256=training.sha256(table)),
        ),
    ):
        beside = out.with_name(f".{out.name}.whole")
        write(beside)
        artefact.publish(beside, out)
