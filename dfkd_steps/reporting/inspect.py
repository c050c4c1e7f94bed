"""What is in an artefact, and what is wrong with it: for `dfkd inspect` and `dfkd verify`."""

import functools
import json
import math

import numpy as np

from ..balancing import segmentation
from ..models.tasks import SEGMENTATION, VOID
from ..runtime import disk
from ..runtime.errors import UserError, printable, reading
from ..storage import atomic, dataset_file, hdf5, network_file
from ..storage.image_format import to_unit
from ..storage.transfer_set import TransferSet, class_counts, softmax
from ..storage.verify import kind_of
from .figures import fullest

GRID_CLASSES, GRID_SAMPLES, CELL = 20, 10, 64


def summary(path) -> list[str]:
    """What an artefact holds and how it was made, as lines for a person."""
    kind = kind_of(path)
    reads = {"transfer_set": _transfer_set, "dataset": _dataset, "network": _network, "metrics": _metrics, "export": _metrics}
    read = reads[kind]
    with reading(path):
        content, provenance = read(path)
        lines = [*_pairs({"file": str(path), "kind": kind, "key": atomic.key_of(path)}), *content]
        for record in provenance if isinstance(provenance, list) else [provenance]:
            if record.get("code"):
                record = {**record, "code": f"{len(record['code'])} modules (dfkd audit -v says which have changed)"}
            lines += ["", "provenance", *_pairs(record, 2)]
    return [printable(line) for line in lines]


def _pairs(mapping, indent=0):
    """``name  value`` lines, aligned; mappings inside go on in lines of their own."""
    flat = {}
    for name, value in mapping.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": part for inner, part in value.items()}
        else:
            flat[name] = value
    width = max(map(len, flat), default=0)
    for name, value in flat.items():
        text = value if isinstance(value, str) else json.dumps(value)
        yield f"{' ' * indent}{name:<{width}}  {text if len(text) <= 200 else text[:197] + '...'}"


def _entropy(probabilities):
    """Entropy (N) in nats of rows of probabilities (N,K)."""
    probabilities = probabilities.astype(np.float64)
    return -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(1)  # 0 log 0 = 0


def _transfer_set(path):
    with TransferSet(path) as transfer:
        if transfer.layout.dense:
            return _transfer_set_of_maps(transfer), transfer.provenance
        layout, about, number = transfer.layout, transfer.metadata, max(1, len(transfer))
        counts, confidence = np.zeros(layout.num_classes, np.int64), np.zeros(layout.num_classes)
        sums = {"entropy": 0.0, "confidence": 0.0, "target entropy": 0.0}
        for _, part in transfer.chunks("logits", *(["targets"] if layout.targets else [])):
            probabilities = softmax(part["logits"])
            highest, labels = probabilities.max(1), part["logits"].argmax(1)
            counts += np.bincount(labels, minlength=len(counts))
            confidence += np.bincount(labels, highest, minlength=len(counts))
            sums["entropy"] += _entropy(probabilities).sum()
            sums["confidence"] += highest.sum()
            if layout.targets:
                sums["target entropy"] += _entropy(part["targets"]).sum()
        names = about.pop("classes", None) or [str(label) for label in range(len(counts))]
        head = {"samples": len(transfer), "image": "x".join(map(str, layout.image_shape)), "stored as": layout.image_type,
                "fields": ", ".join(name for name, _, _ in layout.fields()),
                "teacher": f"mean confidence {sums['confidence'] / number:.3f}, "
                           f"mean entropy {sums['entropy'] / number:.3f} of {math.log(len(counts)):.3f} nats"}  # fmt: skip
        if layout.targets:
            head["targets"] = f"mean entropy {sums['target entropy'] / number:.3f} nats"
        lines = [*_pairs(head), "", "metadata", *_pairs(about, 2), "", "class: samples, share, the teacher's mean confidence"]
        width = max(len(str(name)) for name in names)
        for name, count, total in zip(names, counts, confidence):
            mean = f"{total / count:.3f}" if count else "-"
            bar = "#" * round(40 * count / counts.max())
            lines.append(f"  {name!s:<{width}}  {count:>8}  {count / number:>6.1%}  {mean:>5}  {bar}")
        return lines, transfer.provenance


def _transfer_set_of_maps(transfer):
    layout, counts = transfer.layout, class_counts(transfer)
    head = {"samples": len(transfer), "image": "x".join(map(str, layout.image_shape)), "stored as": layout.image_type,
            "task": layout.task, "fields": ", ".join(name for name, _, _ in layout.fields())}  # fmt: skip
    names = transfer.metadata.get("classes") or [str(label) for label in range(len(counts))]
    about = {name: value for name, value in transfer.metadata.items() if name != "classes"}
    lines = [*_pairs(head), "", "metadata", *_pairs(about, 2), "", "class: share of the pixels, as the teacher predicts"]
    width = max(len(str(name)) for name in names)
    for name, count in zip(names, counts):
        lines.append(f"  {name!s:<{width}}  {count / max(1, counts.sum()):>6.1%}  {'#' * round(40 * count / counts.max())}")
    return lines


def _dataset(path):
    opened = dataset_file.open_dataset(path)
    counts = {split: _histogram(opened.arrays[f"y_{split}"], len(opened.classes)) for split in ("train", "test")}
    head = {"train": opened.sizes["train"], "test": opened.sizes["test"], "image": "x".join(map(str, opened.image_shape)),
            "mean": [round(value, 4) for value in opened.mean], "std": [round(value, 4) for value in opened.std]}  # fmt: skip
    width = max(map(len, opened.classes))
    head["task"] = opened.task
    lines = [*_pairs(head), "", f"class: train, test{' (pixels)' if opened.task == SEGMENTATION else ''}"]
    lines += [f"  {name:<{width}}  {n:>7}  {m:>7}" for name, n, m in zip(opened.classes, counts["train"], counts["test"])]
    return lines, json.loads(hdf5.structure(path, functools.partial(hdf5.text, name="provenance")))


def _histogram(labels, number):
    counts = np.zeros(number, np.int64)
    for piece in disk.pieces(labels):
        # Not bincount alone, which takes as much memory as a damaged label is large.
        counts += np.bincount(piece[(piece >= 0) & (piece < number)], minlength=number)
    return counts.tolist()


def _network(path):
    content = network_file.read_metadata(path)
    description, tensors = network_file.read(path)
    weights, snapshots = network_file.parted(tensors, path)
    head = {"weights": f"{sum(value.numel() for value in weights.values()):,} values", **content["description"]}
    if unseen := network_file.compare(path, description, tensors):
        head["not compared"] = unseen
    if snapshots:
        head["snapshots"] = f"after {', '.join(f'{images:,}' for images in sorted(snapshots))} images"
    if "whole" in content:
        head["cut"] = f"from {content['whole']['count']:,} classes to {', '.join(map(str, content['whole']['keep']))}"
    shown_above = ("kind", "key", "description", "provenance", "whole")
    others = {name: value for name, value in content.items() if name not in shown_above}
    return [*_pairs({**head, "arguments": _short(head.get("arguments", {})), **others})], content.get("provenance", {})


def _short(arguments: dict) -> dict:
    """The graph of a network from ONNX would fill the screen."""
    return {name: value if len(str(value)) < 200 else f"{len(value):,} characters" for name, value in arguments.items()}


def _metrics(path):
    content = atomic.read_json(path)
    matrix = content.pop("confusion_matrix", [])
    provenance = content.pop("provenance", {})
    lines = list(_pairs({name: value for name, value in content.items() if name not in ("key", "kind")}))
    if matrix:
        width = max(len(str(number)) for row in matrix for number in row) + 1
        lines += ["", "confusion matrix (rows: true class)"]
        lines += ["  " + "".join(f"{number:>{width}}" for number in row) for row in matrix]
    return lines, provenance


def samples(path) -> dict[str, np.ndarray]:
    """A few images (n,C,H,W) in [0,1] of each class, with its name and size; of many classes, of those that have most."""
    kind = kind_of(path)
    with reading(path):
        if kind == "transfer_set":
            with TransferSet(path) as transfer:
                dense = transfer.layout.dense
                labels = segmentation.dominant(segmentation.shares_of(transfer)) if dense else transfer.read("labels")
                names = transfer.metadata.get("classes") or range(transfer.layout.num_classes)
                return _few(labels, names, lambda rows: to_unit(transfer.read("images", rows)))
        if kind == "dataset":
            opened = dataset_file.open_dataset(path)
            opened.require_images()
            labels = opened.arrays["y_train"]
            if opened.task == SEGMENTATION:
                labels = segmentation.dominant(_shares(labels, len(opened.classes)))
            return _few(labels, opened.classes, lambda rows: to_unit(opened.read("train", rows)[0]))
    raise UserError(f"{path}: contains no images; --png takes a transfer_set.h5 or dataset.h5")


def _shares(maps, classes: int) -> np.ndarray:
    """``segmentation.shares`` of a data set's maps (N,H,W); void is one more class, which has no row."""
    of_pieces = (np.where(piece == VOID, classes, piece) for piece in disk.pieces(maps))
    return np.concatenate([segmentation.shares(piece, classes + 1)[:, :-1] for piece in of_pieces])


def _few(labels, names, read):
    grid, names = {}, list(names)
    classes = range(len(names)) if len(names) <= GRID_CLASSES else fullest(_histogram(labels, len(names)), GRID_CLASSES)
    for label in classes:
        rows = np.flatnonzero(labels == label)
        grid[f"{names[label]} ({len(rows)})"] = read(rows[:GRID_SAMPLES]) if len(rows) else np.zeros((0, 1, 1, 1), np.float32)
    return grid


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
            rgb = np.repeat(pixels[:1], 3, 0) if len(pixels) != 3 else pixels
            height, width = rgb.shape[1:]
            size = tuple(max(1, round(CELL * side / max(height, width))) for side in (width, height))
            resized = Image.fromarray(np.ascontiguousarray(rgb.transpose(1, 2, 0))).resize(size, Image.Resampling.NEAREST)
            sheet.paste(resized, (margin + column * (CELL + 2), row * (CELL + 2)))
    sheet.save(out, "PNG")
