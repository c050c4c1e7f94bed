"""What is in an artefact, and what is wrong with it: for `dfkd inspect` and `dfkd verify`."""

import contextlib
import json
import math
from pathlib import Path

import h5py
import numpy as np

from . import artefact, data, hdf5, networks, transfer_set, verify_set
from .errors import DAMAGE, UserError, one_line
from .transfer_set import TransferSet, to_unit

GRID_CLASSES, GRID_SAMPLES, CELL = 20, 10, 64
ROWS = 1024


def kind_of(path) -> str:
    """'transfer_set', 'dataset', 'network' or 'metrics'; raises UserError for a missing, damaged or foreign file."""
    path = Path(path)
    if path.suffix not in (".h5", ".safetensors", ".json"):
        raise UserError(f"{path}: is no artefact; give a transfer_set.h5, dataset.h5, *.safetensors or metrics.json")
    artefact.key_of(path)
    if path.suffix != ".h5":
        return {".safetensors": "network", ".json": "metrics"}[path.suffix]
    with h5py.File(path, "r") as file:
        kind = file.attrs.get("kind")
    if not isinstance(kind, str) or kind not in (data.KIND, transfer_set.KIND):
        raise UserError(f"{path}: is neither a data set nor a transfer set of dfkd; delete it and make it again")
    return kind


def summary(path) -> list[str]:
    """What an artefact holds and how it was made, as lines for a person."""
    kind = kind_of(path)
    read = {"transfer_set": _transfer_set, "dataset": _dataset, "network": _network, "metrics": _metrics}[kind]
    with _readable(path):
        told, provenance = read(path)
    lines = [*_pairs({"file": str(path), "kind": kind, "key": artefact.key_of(path)}), *told]
    for one in provenance if isinstance(provenance, list) else [provenance]:
        lines += ["", "provenance", *_pairs(one, 2)]
    return lines


@contextlib.contextmanager
def _readable(path):
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f"{path}: is damaged ({one_line(error)}); delete it and make it again") from None


def _pairs(mapping, indent=0):
    """``name  value`` lines, aligned; mappings inside go on in lines of their own."""
    flat = {}
    for name, value in mapping.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": one for inner, one in value.items()}
        else:
            flat[name] = value
    width = max(map(len, flat), default=0)
    for name, value in flat.items():
        text = value if isinstance(value, str) else json.dumps(value)
        yield f"{' ' * indent}{name:<{width}}  {text if len(text) <= 200 else text[:197] + '...'}"


def _softmax(logits):
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def _entropy(probabilities):
    """Entropy (N) in nats of rows of probabilities (N,K)."""
    probabilities = probabilities.astype(np.float64)
    return -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(1)  # 0 log 0 = 0


def _transfer_set(path):
    with TransferSet(path) as transfer:
        layout, about, number = transfer.layout, transfer.about, max(1, len(transfer))
        counts, confidence = np.zeros(layout.num_classes, np.int64), np.zeros(layout.num_classes)
        sums = {"entropy": 0.0, "confidence": 0.0, "target entropy": 0.0}
        for _, part in transfer.chunks("logits", *(["targets"] if layout.targets else []), rows=ROWS):
            probabilities = _softmax(part["logits"])
            highest, labels = probabilities.max(1), part["logits"].argmax(1)
            counts += np.bincount(labels, minlength=len(counts))
            confidence += np.bincount(labels, highest, minlength=len(counts))
            sums["entropy"] += _entropy(probabilities).sum()
            sums["confidence"] += highest.sum()
            if layout.targets:
                sums["target entropy"] += _entropy(part["targets"]).sum()
        names = about.pop("classes", None) or [str(label) for label in range(len(counts))]
        told = {"samples": len(transfer), "image": "x".join(map(str, layout.image_shape)), "stored as": layout.image_type,
                "fields": ", ".join(name for name, _, _ in layout.fields()),
                "teacher": f"mean confidence {sums['confidence'] / number:.3f}, "
                           f"mean entropy {sums['entropy'] / number:.3f} of {math.log(len(counts)):.3f} nats"}  # fmt: skip
        if layout.targets:
            told["targets"] = f"mean entropy {sums['target entropy'] / number:.3f} nats"
        lines = [*_pairs(told), "", "about", *_pairs(about, 2), "", "class: samples, share, the teacher's mean confidence"]
        width = max(len(str(name)) for name in names)
        for name, count, total in zip(names, counts, confidence):
            mean = f"{total / count:.3f}" if count else "-"
            bar = "#" * round(40 * count / counts.max())
            lines.append(f"  {name!s:<{width}}  {count:>8}  {count / number:>6.1%}  {mean:>5}  {bar}")
        return lines, transfer.provenance


def _dataset(path):
    opened = data.open_dataset(path)
    counts = {split: _histogram(_labels(path, split), len(opened.classes)) for split in ("train", "test")}
    told = {"train": opened.sizes["train"], "test": opened.sizes["test"], "image": "x".join(map(str, opened.image_shape)),
            "mean": [round(value, 4) for value in opened.mean], "std": [round(value, 4) for value in opened.std]}  # fmt: skip
    width = max(map(len, opened.classes))
    lines = [*_pairs(told), "", "class: train, test"]
    lines += [f"  {name:<{width}}  {n:>7}  {m:>7}" for name, n, m in zip(opened.classes, counts["train"], counts["test"])]
    with h5py.File(path, "r") as file:
        return lines, json.loads(file.attrs["provenance"])


def _histogram(labels, number):
    # Not bincount alone, which takes as much memory as a damaged label is large.
    return np.bincount(labels[(labels >= 0) & (labels < number)], minlength=number).tolist()


def _labels(path, split):
    with h5py.File(path, "r") as file:
        field = file[f"y_{split}"]
        # A damaged file may declare any size, of which h5py would make zeros in memory.
        if field.ndim != 1 or field.chunks is None or field.id.get_num_chunks() < -(-len(field) // field.chunks[0]):
            raise UserError(f"{path}: y_{split} is not all there; delete it and make it again")
        return field[:]


def _network(path):
    content = networks.read_metadata(path)
    network = networks.load(path)
    parameters = sum(value.numel() for value in network.net.parameters())
    others = {name: value for name, value in content.items() if name not in ("kind", "key", "description", "provenance")}
    return [*_pairs({"parameters": f"{parameters:,}", **content["description"], **others})], content.get("provenance", {})


def _metrics(path):
    content = json.loads(Path(path).read_text("utf-8"))
    matrix = content.pop("confusion_matrix", [])
    provenance = content.pop("provenance", {})
    content.pop("key")
    lines = list(_pairs(content))
    if matrix:
        width = max(len(str(number)) for row in matrix for number in row) + 1
        lines += ["", "confusion matrix (rows: true class)"]
        lines += ["  " + "".join(f"{number:>{width}}" for number in row) for row in matrix]
    return lines, provenance


def verify(path) -> list[str]:
    """What is wrong with an artefact, a line each; empty when nothing is. Raises UserError for what is no artefact at all."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give an artefact that exists")
    if path.suffix not in (".h5", ".safetensors", ".json"):
        kind_of(path)
    try:
        checks = {"dataset": _verify_dataset, "network": _verify_network, "metrics": _verify_metrics}
        with _readable(path):
            problems = {**checks, "transfer_set": verify_set.verify}[kind_of(path)](path)
        if not problems and path.suffix == ".h5" and (fault := hdf5.broken_seal(path)):
            return [fault]
        return problems
    except UserError as error:
        return [line.removeprefix(f"{path}: ") for line in str(error).splitlines()]


def _verify_dataset(path):
    opened, problems = data.open_dataset(path), []
    for split in ("train", "test"):
        labels = _labels(path, split)
        with h5py.File(path, "r") as file:
            images = file[f"x_{split}"]
            for start in range(0, len(images), ROWS):
                images[start : start + ROWS]  # a damaged chunk raises
        if len(labels) and (labels.min() < 0 or labels.max() >= len(opened.classes)):
            problems.append(f"y_{split} has labels outside 0 to {len(opened.classes) - 1}")
    if not np.isfinite([*opened.mean, *opened.std]).all() or min(opened.std) <= 0:
        problems.append(f"mean {opened.mean} and std {opened.std} are no normalisation")
    return problems


def _verify_network(path):
    weights = networks.load(path).net.state_dict()
    return [f"{name}: holds values that are not finite" for name, value in weights.items() if not value.isfinite().all()]


def _verify_metrics(path):
    def numbers(value, where):
        if isinstance(value, dict):
            value = list(value.items())
        elif isinstance(value, list):
            value = list(enumerate(value))
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{where}: {value} is not a finite number"
        for name, one in value if isinstance(value, list) else ():
            yield from numbers(one, f"{where}.{name}" if where else str(name))

    content = json.loads(Path(path).read_text("utf-8"))
    missing = [f"{name}: is missing" for name in ("top1", "teacher_top1", "n_test") if name not in content]
    return missing + list(numbers(content, ""))


def samples(path) -> dict[str, np.ndarray]:
    """A few images (n,C,H,W) in [0,1] of each of the first classes, with the class's name and size."""
    kind = kind_of(path)
    with _readable(path):
        if kind == "transfer_set":
            with TransferSet(path) as transfer:
                labels = transfer.read("labels")
                names = transfer.about.get("classes") or range(transfer.layout.num_classes)
                return _few(labels, names, lambda rows: to_unit(transfer.read("images", rows)))
        if kind == "dataset":
            opened = data.open_dataset(path)
            return _few(_labels(path, "train"), opened.classes, lambda rows: to_unit(opened.read("train", rows)[0]))
    raise UserError(f"{path}: holds no images; --png takes a transfer_set.h5 or dataset.h5")


def _few(labels, names, read):
    found = {}
    for label, name in list(enumerate(names))[:GRID_CLASSES]:
        rows = np.flatnonzero(labels == label)
        found[f"{name} ({len(rows)})"] = read(rows[:GRID_SAMPLES]) if len(rows) else np.zeros((0, 1, 1, 1), np.float32)
    return found


def write_grid(path, out):
    """A PNG with a row of samples for each class."""
    from PIL import Image, ImageDraw

    few = samples(path)
    margin = 8 + 7 * max(map(len, few))
    sheet = Image.new("RGB", (margin + GRID_SAMPLES * (CELL + 2), len(few) * (CELL + 2)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(few.items()):
        draw.text((4, row * (CELL + 2) + CELL // 2 - 6), name, fill="black")
        for column, image in enumerate(images):
            pixels = np.rint(image * 255).astype(np.uint8)
            shown = np.repeat(pixels[:1], 3, 0) if len(pixels) != 3 else pixels
            height, width = shown.shape[1:]
            size = tuple(max(1, round(CELL * side / max(height, width))) for side in (width, height))
            resized = Image.fromarray(np.ascontiguousarray(shown.transpose(1, 2, 0))).resize(size, Image.Resampling.NEAREST)
            sheet.paste(resized, (margin + column * (CELL + 2), row * (CELL + 2)))
    sheet.save(out, "PNG")
