"""A network as an artefact: safetensors with the weights, and in its metadata all that is needed to use it.

Weights of a student as they were after N images (``training.snapshots``) are named ``snapshot/N/NAME``, and what a teacher that
was cut to some of its classes had before (``models.head``) ``whole/NAME``.
"""

import csv
import hashlib
import io
import json
import math
import re
import zlib
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as save_bytes
from torch import nn

from ..models.classifier import Classifier, Description, Whole, build_network, misfit_of
from ..models.tasks import TASKS
from ..runtime.errors import UserError, reading
from . import atomic
from .network_metadata import KIND, METADATA, read_metadata

GENERATOR = "generator"
MAX_SIDE, NUMBERS_PER_PIXEL = 1 << 14, 16
SNAPSHOT = re.compile(r"snapshot/(\d{1,15})/(.+)")
WHOLE, MOST_CLASSES = "whole/", 100_000


def save(path, net: nn.Module, description: Description, key: str, provenance: dict, snapshots=None, whole=None, **extra):
    """Write weights and metadata; the same content gives the same bytes."""
    content = {"kind": KIND, "key": key, "description": asdict(description), "provenance": provenance, **extra}
    weights = tensors_of(net, snapshots or {}, whole)
    if whole:
        content["whole"] = {"count": whole.count, "keep": list(whole.keep), "arguments": whole.arguments}
    content["crc32"] = checksum(content, weights)
    # One entry, because safetensors writes several in random order. By Python: save_file makes files of mode 0600.
    Path(path).write_bytes(save_bytes(weights, {METADATA: json.dumps(content, sort_keys=True)}))


def tensors_of(net: nn.Module, snapshots: dict, whole: Whole | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a file: weights of a network, of what it was on its way, and what it had before it was cut. Copies on the
    CPU: safetensors refuses tensors that share memory, as tied weights do."""
    tensors = net.state_dict() | {f"{WHOLE}{name}": value for name, value in (whole.tensors if whole else {}).items()}
    tensors |= {f"snapshot/{seen}/{name}": value for seen, weights in snapshots.items() for name, value in weights.items()}
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def parted(tensors: dict[str, torch.Tensor], where) -> tuple[dict[str, torch.Tensor], dict[int, dict[str, torch.Tensor]]]:
    """The weights among the tensors of a file, and its snapshots by the number of images; ``where`` they lie, for the error."""
    weights, snapshots = {}, {}
    for name, value in tensors.items():
        if match := SNAPSHOT.fullmatch(name):
            snapshots.setdefault(int(match[1]), {})[match[2]] = value
        elif not name.startswith(WHOLE):
            weights[name] = value
    kinds = {name: (value.shape, value.dtype) for name, value in weights.items()}
    for seen, kept in snapshots.items():
        if {name: (value.shape, value.dtype) for name, value in kept.items()} != kinds:
            raise UserError(f"{where}: its snapshot after {seen} images is not of the same network; make it again")
    return weights, snapshots


def checksum(content: dict, weights: dict[str, torch.Tensor]) -> str:
    """CRC-32 of a network's metadata (but for the checksum in it) and weights; safetensors itself has none."""
    rest = {name: value for name, value in content.items() if name != "crc32"}
    check = zlib.crc32(json.dumps(rest, sort_keys=True).encode())
    for name, value in sorted(weights.items()):
        check = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), check)
        check = zlib.crc32(value.contiguous().flatten().view(torch.uint8).numpy(), check)  # pyright: ignore[reportArgumentType]
    return f"{check:08x}"


def _description(path, stored: dict) -> Description:
    with reading(path, "its description is not that of a dfkd network"):
        return description_of(stored)


def tuples(stored: dict) -> dict:
    """The same with tuples instead of lists, which JSON has."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}


def description_of(stored: dict) -> Description:
    """The description that a file has in its metadata; raises ValueError or TypeError where it is none of a network."""
    description = Description(**tuples(stored))
    mean, std = description.mean, description.std
    texts = (description.builder, description.name, *description.classes)
    sound = (
        all(isinstance(text, str) and text.isprintable() for text in texts)
        and isinstance(description.arguments, dict)
        and len(description.image_shape) == 3
    )
    sound = sound and all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in description.image_shape)
    if not sound or description.task not in TASKS or not len(mean) == len(std) == description.image_shape[0]:
        raise ValueError("its description is not that of a network")
    plain = all(isinstance(value, (int, float)) for value in (*mean, *std))
    if not plain or not torch.tensor([mean, std], dtype=torch.float32).isfinite().all() or min(std) <= 0:
        raise ValueError("its mean and std are not a normalisation")
    return description


def read(path) -> tuple[Description, dict[str, torch.Tensor]]:
    """Description and tensors of a network's file; nothing is built, and no code that the file names is imported."""
    return _read(path)[:2]


def _read(path) -> tuple[Description, dict[str, torch.Tensor], int, Whole | None]:
    """Also how many images the network has learnt from, and what it was before it was cut."""
    content = read_metadata(path)
    with reading(path), safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safe_open is no dict)
    if content.get("crc32") != checksum(content, tensors):
        raise UserError(f"{path}: is damaged (its checksum does not match); delete it and make it again")
    description = _description(path, content["description"])
    with reading(path, "what it was before it was cut is not valid"):
        whole = _whole(content, tensors, description)
    with reading(path, "its number of images is not valid"):
        return description, tensors, seen_in(content), whole


def seen_in(head: dict) -> int:
    """How many images metadata say that a network has learnt from, 0 where they do not; raises ValueError."""
    seen = head.get("seen", 0)
    if not isinstance(seen, int) or not 0 <= seen < 10**15:
        raise ValueError("its number of images is not valid")
    return seen


def _whole(head: dict, tensors, description: Description) -> Whole | None:
    """What metadata and tensors say of a network before it was cut, None where it was not; raises ValueError or TypeError."""
    if "whole" not in head:
        return None
    count, keep, arguments = (head["whole"][name] for name in ("count", "keep", "arguments"))
    cut = {name.removeprefix(WHOLE): value for name, value in tensors.items() if name.startswith(WHOLE)}
    sound = isinstance(count, int) and 0 < count <= MOST_CLASSES and isinstance(arguments, dict)
    sound = sound and len(keep) == description.num_classes and all(value.numel() for value in cut.values())
    sound = sound and all(isinstance(place, int) and 0 <= place < count for place in keep)
    # The head of a network from ONNX may be none of its tensors; its graph has the number then.
    if not sound or not (cut or description.builder == "onnx") or any(value.shape[:1] != (count,) for value in cut.values()):
        raise ValueError("what it was before it was cut is not valid")
    return Whole(count, tuple(keep), cut, arguments)


def compare(path, description: Description, tensors) -> str:
    """Refuse weights that are not of the described network, built in outline; why they were not compared ('' = they were)."""
    weights, _ = parted(tensors, path)
    if description.builder == "factory":
        return f"its network was not built: {description.name!r} refers to code, which is not run here"
    with reading(path, "its network cannot be built"):
        try:
            misfit = misfit_of(lambda: build_network(description), weights)
        except NotImplementedError:  # some of torchvision's need values of their weights to be built
            return f"its network was not built: {description.name} cannot be built without its weights"
    if misfit:
        raise UserError(f"{path}: weights do not fit {description.name} ({misfit}); make it again")
    return ""


def load(path, device="cpu") -> Classifier:
    """The network with its weights and normalisation, in eval mode, channels_last; a factory that it names is run."""
    description, tensors, seen, whole = _read(path)
    weights, snapshots = parted(tensors, path)
    # To build in outline first takes torch two seconds, so only where images are large for the number of weights.
    pixels, numbers = math.prod(description.image_shape), sum(value.numel() for value in weights.values())
    if description.builder != "arch" or pixels * NUMBERS_PER_PIXEL > numbers:
        compare(path, description, weights)
    net = build_network(description)
    with reading(path, f"weights do not fit {description.name}"):
        net.load_state_dict(weights)
    classifier = Classifier(net, description)
    classifier.seen, classifier.snapshots, classifier.whole = seen, snapshots, whole
    return classifier.to(device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]


def load_frozen(path, device="cpu") -> Classifier:
    """A teacher: ``load``, and no weight takes a gradient."""
    return load(path, device).requires_grad_(False)


def to_bytes(network) -> bytes:
    """A classifier or a generator as a safetensors file, of its own or kept with a set; the same content, the same bytes."""
    head = {"description": asdict(network.description)}
    if isinstance(network, Classifier):
        head, tensors = {"kind": KIND, **head, **seen_of(network)}, tensors_of(network.net, network.snapshots)
    else:
        head, tensors = {"kind": GENERATOR, **head}, tensors_of(network, {})
    head["crc32"] = checksum(head, tensors)
    return save_bytes(tensors, {METADATA: json.dumps(head, sort_keys=True)})


def seen_of(classifier: Classifier) -> dict[str, int]:
    """What metadata say of the images that a network has learnt from; nothing where that is not known."""
    return {"seen": classifier.seen} if classifier.seen else {}


def publish(out, key: str, provenance: dict, classifier: Classifier, history):
    """Write history.csv and then the network that vouches for it; both whole."""
    table = history_csv(history)
    atomic.write(out.with_name("history.csv"), table)
    beside = out.with_name(f".{out.name}.whole")
    more = {"history_sha256": sha256(table), **seen_of(classifier)}
    save(beside, classifier.net, classifier.description, key, provenance, classifier.snapshots, classifier.whole, **more)
    atomic.commit(beside, out)


def history_csv(history: list[dict]) -> bytes:
    """The history as CSV, with its header even when empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(history[0]) if history else ["epoch", "loss", "lr"], lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    return text.getvalue().encode()


def sha256(content: bytes) -> str:
    """Hex digest; a network's metadata holds that of its history.csv, which cannot carry a key itself."""
    return hashlib.sha256(content).hexdigest()
