"""Hostile inputs, made by hand and counted: a kind of input x a place in it x what stands there. For ``test_hostile_forms``."""

import itertools
import json
import os
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import torch
from safetensors.torch import save

from dfkd_steps.datasets import array_files, readers
from dfkd_steps.models import generator, onnx_file, pretrained
from dfkd_steps.models.classifier import Description, build_architecture
from dfkd_steps.pipeline import audit, plain_yaml
from dfkd_steps.reporting import other_images, runs
from dfkd_steps.schemas import groups
from dfkd_steps.storage import atomic, dataset_file, hdf5, kept_networks, network_file, set_layout, transfer_set, verify

ROWS, SIDE, CLASSES = 12, 6, 3


# ------------------------------------------------------------------------------------------------- HDF5
def dataset(folder: Path) -> Path:
    """A sound dataset.h5."""
    images, labels = np.random.default_rng(0).integers(0, 256, (ROWS, 1, SIDE, SIDE), np.uint8), np.arange(ROWS) % CLASSES
    arrays = {"x_train": images, "x_test": images, "y_train": labels, "y_test": labels}
    dataset_file.write(folder / "dataset.h5", "k", {}, "abc", arrays)
    return folder / "dataset.h5"


def a_set(folder: Path) -> Path:
    """A sound transfer_set.h5 with all optional fields."""
    layout, logits = (
        transfer_set.Layout((1, SIDE, SIDE), CLASSES, weights=True, source=True),
        np.eye(CLASSES, dtype="f4")[np.arange(ROWS) % 3],
    )
    writer = transfer_set.Writer(folder / "transfer_set.h5", "k", layout, ROWS)
    writer.append(
        images=np.zeros((ROWS, 1, SIDE, SIDE), np.uint8),
        logits=logits,
        labels=logits.argmax(1),
        targets=logits,
        weights=np.ones(ROWS),
        source=np.arange(ROWS),
        round=np.zeros(ROWS),
    )
    writer.finish({}, {})
    return folder / "transfer_set.h5"


def instead(file, name, *given, **how):
    """Another data set in the place of a field."""
    del file[name]
    file.create_dataset(name, *given, **how)


def linked(target):
    def change(file, name):
        del file[name]
        file[name] = target

    return change


def elsewhere(file, name):
    shape, kind = file[name].shape, file[name].dtype
    Path(file.filename).with_name("secret").write_bytes(bytes(1 << 20))
    instead(file, name, shape=shape, dtype=kind, external=[(str(Path(file.filename).with_name("secret")), 0, 1 << 20)])


def virtual(file, name):
    shape, kind = file[name].shape, file[name].dtype
    layout = h5py.VirtualLayout(shape, kind)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def compact(file, name):
    shape, kind = file[name].shape, file[name].dtype
    del file[name]
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.COMPACT)
    file.create_dataset(name, shape, kind, dcpl=how)


def unknown_filter(file, name):
    shape, kind = file[name].shape, file[name].dtype
    del file[name]
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk(shape)
    how.set_filter(32765, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(kind), h5py.h5s.create_simple(shape), how)


def with_values(value):
    def change(file, name):
        file[name][...] = value

    return change


def shaped(change):
    return lambda file, name: instead(file, name, data=np.zeros(change(file[name].shape), file[name].dtype))


FIELD = {
    "missing": lambda file, name: file.__delitem__(name),
    "a soft link": linked(h5py.SoftLink("/elsewhere")),
    "a soft link to itself": lambda file, name: linked(h5py.SoftLink(f"/{name}"))(file, name),
    "an external link": linked(h5py.ExternalLink("/etc/passwd", "/x")),
    "a link to a device": linked(h5py.ExternalLink("/dev/zero", "/x")),
    "a group": lambda file, name: (file.__delitem__(name), file.create_group(name)),
    "a group that holds itself": lambda file, name: (file.__delitem__(name), file.__setitem__(name, file["/"])),
    "in another file": elsewhere,
    "virtual": virtual,
    "chunks": lambda file, name: instead(file, name, data=file[name][...], chunks=file[name].shape),
    "compressed": lambda file, name: instead(file, name, data=file[name][...], compression="gzip"),
    "compressed twice": lambda file, name: instead(file, name, data=file[name][...], compression="gzip", shuffle=True),
    "an unknown filter": unknown_filter,
    "compact": compact,
    "larger than the disk": lambda file, name: instead(
        file, name, shape=(1 << 50, *file[name].shape[1:]), dtype=file[name].dtype
    ),
    "declared and not there": lambda file, name: instead(file, name, shape=file[name].shape, dtype=file[name].dtype),
    "no shape": lambda file, name: instead(file, name, data=h5py.Empty(file[name].dtype)),
    "one number": lambda file, name: instead(file, name, data=np.zeros((), file[name].dtype)),
    "no rows": shaped(lambda shape: (0, *shape[1:])),
    "a row too few": shaped(lambda shape: (shape[0] - 1, *shape[1:])),
    "a dimension more": shaped(lambda shape: (*shape, 1)),
    "a dimension of none": shaped(lambda shape: (*shape, 0)),
    "texts": lambda file, name: instead(file, name, data=np.full(file[name].shape, "a", object), dtype=h5py.string_dtype()),
    "records": lambda file, name: instead(file, name, data=np.zeros(file[name].shape, [("a", "u1"), ("b", "f4")])),
    "references": lambda file, name: instead(file, name, data=np.full(file[name].shape, file.ref, h5py.ref_dtype)),
    "complex numbers": lambda file, name: instead(file, name, data=np.zeros(file[name].shape, "c8")),
    "the other byte order": lambda file, name: instead(file, name, data=file[name][...].astype(">f8")),
    "booleans": lambda file, name: instead(file, name, data=np.zeros(file[name].shape, bool)),
}
VALUES = {  # of single fields: what no type forbids
    "labels": {"-1": -1, "3": 3, "3e8": 300_000_000, "1e15": 10**15, "least": -(1 << 63)},
    "y_train": {"-1": -1, "77": 77, "1e15": 10**15, "least": -(1 << 63)},
    "y_test": {"-1": -1, "77": 77, "1e15": 10**15},
    "logits": {"nan": np.nan, "inf": np.inf},
    "weights": {"nan": np.nan},
}


def texts(count, length):
    return lambda attributes, name: attributes.create(name, ["a" * length] * count, dtype=h5py.string_dtype())


ATTRIBUTE = {
    "missing": lambda attributes, name: attributes.__delitem__(name),
    "empty": lambda attributes, name: attributes.__setitem__(name, h5py.Empty("f8")),
    "1,500 texts": texts(1500, 20),
    "texts of 1 MB": texts(2, 1 << 20),
    "an array of bytes": lambda attributes, name: attributes.__setitem__(name, np.zeros(60, "u1")),
    "records": lambda attributes, name: attributes.__setitem__(name, np.zeros(2, [("a", "u1"), ("b", "f4")])),
    "a complex number": lambda attributes, name: attributes.__setitem__(name, 1j),
    "a table": lambda attributes, name: attributes.__setitem__(name, np.zeros((3, 3))),
    "a reference": lambda attributes, name: attributes.create(name, h5py.Reference(), dtype=h5py.ref_dtype),
}


def changed(make, what):
    """A sound file, changed, with a checksum that fits."""

    def made(folder):
        path = make(folder)
        with h5py.File(path, "r+") as file:
            what(file)
        hdf5.seal(path)
        return path

    return made


def open_set(path):
    with transfer_set.TransferSet(path) as opened:
        opened.require_fit(Description("arch", "lenet5", tuple("abc"), (1, SIDE, SIDE), (0.5,), (0.5,)))


def hdf5_cases():
    forms = (
        (dataset, dataset_file.FIELDS, ("kind", "key", "classes", "mean", "std"), dataset_file.open_dataset),
        (a_set, set_layout.FIELDS, ("kind", "key", "provenance", "metadata", "schema_version"), open_set),
    )
    for make, fields, attributes, opened in forms:
        for field, (what, change) in itertools.product(fields, FIELD.items()):
            if not (field in ("targets", "weights", "source") and what == "missing"):
                yield f"{field}: {what}", opened, changed(make, lambda file, field=field, change=change: change(file, field))
        for field in fields:
            for what, value in VALUES.get(field, {}).items():
                yield f"{field}: {what}", opened, changed(make, lambda file, f=field, v=value: with_values(v)(file, f))
        for name, (what, change) in itertools.product(attributes, ATTRIBUTE.items()):
            yield f"{name}: {what}", opened, changed(make, lambda file, name=name, change=change: change(file.attrs, name))


# ------------------------------------------------------------------------------------------------- networks
JSON = {
    "null": None,
    "true": True,
    "a number": -1,
    "10^30": 10**30,
    "1e400": float("inf"),
    "nan": float("nan"),
    "a text": "x",
    "an escape": "\x1b[2J",
    "a line": "x\nerror: y",
    "a list": [[]],
    "a mapping": {"a": 1},
    "a deep list": json.loads("[" * 500 + "]" * 500),
    "a surrogate": "\udcff",
}
NETWORK = {
    "builder": "arch",
    "name": "lenet5",
    "classes": list("0123456789"),
    "image_shape": [1, 28, 28],
    "mean": [0.1],
    "std": [0.3],
    "arguments": {},
}
GENERATOR = {
    "image_shape": [1, 8, 8],
    "num_classes": 3,
    "latent": 4,
    "width": 2,
    "arch": "cmi",
    "mean": [0.5],
    "std": [0.5],
    "classes": [0, 1, 2],
}


def a_network(description, arguments=None):
    def made(folder):
        weights = build_architecture("lenet5", 10, (1, 28, 28)).state_dict()
        content = {"kind": network_file.KIND, "key": "k", "description": description, "provenance": {}}
        content["crc32"] = network_file.checksum(content, weights)
        (folder / "x.safetensors").write_bytes(save(weights, {network_file.METADATA: json.dumps(content)}))
        return folder / "x.safetensors"

    return made


def a_generator(description):
    def made(folder):
        weights = generator.Generator(generator.GeneratorDescription(**network_file.tuples(GENERATOR))).state_dict()
        content = {"kind": network_file.GENERATOR, "description": description}
        return save(weights, {network_file.METADATA: json.dumps(content)})

    return made


def network_cases():
    for name, (what, value) in itertools.product(NETWORK, JSON.items()):
        if not (name == "arguments" and what == "a mapping"):  # our own architectures take none, and ask for none
            yield f"{name}: {what}", network_file.load, a_network(NETWORK | {name: value})
    for name, (what, value) in itertools.product(GENERATOR, JSON.items()):
        opened = lambda content: kept_networks.from_bytes(content, "set.h5")  # noqa: E731
        yield f"generator {name}: {what}", opened, a_generator(GENERATOR | {name: value})
    for library, name, value in itertools.product(
        ("timm", "torchvision"),
        ("checkpoint_path", "pretrained_cfg", "pretrained", "weights"),
        ("/etc/passwd", {"url": "http://127.0.0.1:9/x"}, True),
    ):
        model = {"timm": "resnet18", "torchvision": "resnet18"}[library]
        description = NETWORK | {"builder": library, "name": model, "arguments": {name: value}}
        yield f"{library}: {name}: {value}", network_file.load, a_network(description)
    large = (
        {"image_shape": [1, 16384, 16384]},
        {"name": "alexnet", "image_shape": [3, 8000, 8000], "mean": [0.1] * 3, "std": [1] * 3},
    )
    for number, change in enumerate(large):
        yield f"larger than its weights: {number}", network_file.load, a_network(NETWORK | change)
    for change in ({"width": 4096, "image_shape": [1, 65536, 8]}, {"latent": 65536, "width": 65536}, {"width": 65536}):
        yield (
            f"generator larger than its weights: {change}",
            lambda content: kept_networks.from_bytes(content, "set.h5"),
            a_generator(GENERATOR | change),
        )


# ------------------------------------------------------------------------------------------------- npz, IDX, images
SHAPES = ("(4, 10000000, 10000000)", "(-4, 5, 5)", "(4.0, 5, 5)", "()", "(0, 5, 5)", "('4', 5, 5)", "(4, 5, 5, 7)", "None", "4")
TYPES = ("'|O'", "'<f8'", "'|S9'", "'<U9'", "'|b1'", "'<c8'", "'<M8[s]'", "[('a', '|O')]", "[('a', '|u1')]", "'x'", "3", "'<V4'")


def header(text: str, version=(1, 0), length=None) -> bytes:
    kind = "<H" if version == (1, 0) else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(kind, len(text) if length is None else length) + text.encode()


def an_npz(**members):
    def made(folder):
        sound = {
            "x_train": np.zeros((4, 5, 5), np.uint8),
            "y_train": np.arange(4) % 2,
            "x_test": np.zeros((4, 5, 5), np.uint8),
            "y_test": np.arange(4) % 2,
        }
        with zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, values in sound.items():
                if name not in members:
                    with archive.open(f"{name}.npy", "w") as out:
                        np.lib.format.write_array(out, values)
            for name, content in members.items():
                if content is not None:
                    archive.writestr(f"{name}.npy", content)
        return groups.Npz(source="npz", path=str(folder / "x.npz"))

    return made


def npz_cases():
    for name in array_files.ARRAYS:
        for shape in SHAPES:
            text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
            yield f"{name}: shape {shape}", array_files.npz, an_npz(**{name: header(text) + bytes(100)})
        for kind in TYPES:
            text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': (4,), }}"
            yield f"{name}: type {kind}", array_files.npz, an_npz(**{name: header(text) + bytes(100)})
        for what, content in {
            "missing": None,
            "empty": b"",
            "no magic": b"x" * 200,
            "version 7": b"\x93NUMPY\x07\x00" + bytes(99),
            "brackets": header("[" * 5000),
            "code": header("__import__('os').system('touch executed')"),
            "a long header": header("", (2, 0), 500_000_000) + bytes(999),
        }.items():
            yield f"{name}: {what}", array_files.npz, an_npz(**{name: content})


IDX = {
    "empty": b"",
    "no magic": b"x" * 40,
    "of floats": bytes((0, 0, 13, 3)) + bytes(12),
    "a dimension less": bytes((0, 0, 8, 2)) + bytes(12),
    "cut off in its head": bytes((0, 0, 8, 3, 0, 0)),
    "no images": struct.pack(">4B3I", 0, 0, 8, 3, 0, 28, 28),
    "4 TB": struct.pack(">4B3I", 0, 0, 8, 3, 1 << 32 - 1, 1000, 1000),
    "16 EB": struct.pack(">4B3I", 0, 0, 8, 3, *[(1 << 32) - 1] * 3),
    "a byte too few": struct.pack(">4B3I", 0, 0, 8, 3, 4, 5, 5) + bytes(99),
    "a byte too many": struct.pack(">4B3I", 0, 0, 8, 3, 4, 5, 5) + bytes(101),
}


def an_idx(content, packed):
    def made(folder):
        import gzip

        name = array_files.IDX_FILES[0]
        for other in array_files.IDX_FILES[1:]:
            (folder / other).write_bytes(b"x")
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
        return groups.Idx(source="idx", path=str(folder))

    return made


def image_files():
    from io import BytesIO

    from PIL import Image

    def saved(form, mode="RGB", size=(8, 8)):
        out = BytesIO()
        Image.new(mode, size).save(out, form)
        return out.getvalue()

    yield from {"empty": b"", "a text": b"hello", "a script": b"#!/bin/sh\ntouch executed\n", "zeros": bytes(5000)}.items()
    yield "EPS, which Pillow hands to a program", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    for form in ("GIF", "ICO", "TGA", "PCX", "SGI", "PDF", "IM", "MSP", "XBM", "DDS", "JPEG2000"):
        yield f"{form}, which is not on the list", saved(form, "1" if form in ("MSP", "XBM") else "RGB")
    for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"):
        whole = saved(form, "RGB", (64, 64))
        yield f"{form} cut off", whole[: len(whole) // 3]
    yield "16 bits", saved("PNG", "I;16")
    yield "floats", saved("TIFF", "F")
    yield "169 million pixels in 21 kB", saved("PNG", "1", (13000, 13000))
    yield "a trillion pixels", saved("PNG")[:16] + struct.pack(">2I", 1 << 20, 1 << 20) + saved("PNG")[24:]


def an_image(content):
    def made(folder):
        for name in "ab":
            (folder / "images" / name).mkdir(parents=True)
            (folder / "images" / name / "x.png").write_bytes(content)
        return groups.Images(source="images", path=str(folder / "images"), size=8, channels=3, test_share=0.2)

    return made


def array_cases():
    yield from npz_cases()
    for (what, content), packed in itertools.product(IDX.items(), (False, True)):
        yield f"IDX {what}{', packed' * packed}", array_files.idx, an_idx(content, packed)
    yield (
        "IDX packed a thousandfold",
        array_files.idx,
        an_idx(struct.pack(">4B3I", 0, 0, 8, 3, 90, 1000, 1000) + bytes(90_000_000), True),
    )
    for what, content in image_files():
        yield f"image {what}", readers.read, an_image(content)


# ------------------------------------------------------------------------------------------------- checkpoints
def a_checkpoint(content):
    def made(folder):
        if isinstance(content, bytes):
            (folder / "x.pth").write_bytes(content)
        else:
            torch.save(content, folder / "x.pth")
        return folder / "x.pth"

    return made


def deflated(folder):
    torch.save({"w": torch.zeros(8_000_000)}, folder / "y.pth")
    with zipfile.ZipFile(folder / "y.pth") as old, zipfile.ZipFile(folder / "x.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return folder / "x.pth"


def itself(*wrappers):
    first = content = {}
    for name in wrappers[:-1]:
        content[name] = content = {}
    content[wrappers[-1]] = first
    return first


def checkpoint_cases():
    plain = torch.zeros(4, 4)
    for what, content in {
        "meta": {"w": torch.zeros(4, device="meta")},
        "sparse": {"w": plain.to_sparse()},
        "CSR": {"w": plain.to_sparse_csr()},
        "quantised": {"w": torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8)},
        "a list": [plain],
        "a tensor": plain,
        "nothing": {},
        "numbers": {"w": 3},
        "texts": {"w": "x"},
        "a tensor in a list": {"w": [plain]},
        "itself": itself("state_dict"),
        "itself by two": itself("state_dict", "model"),
        "itself by three": itself("model", "net", "model"),
        "wrapped in itself": {"state_dict": {"state_dict": {"state_dict": {"state_dict": {"state_dict": {"w": plain}}}}}},
        "empty": b"",
        "a text": b"hello",
        "zeros": bytes(5000),
        "a zip of nothing": b"PK\x05\x06" + bytes(18),
        "a zip of two disks": b"PK\x06\x07" + struct.pack("<IQI", 0, 0, 2) + b"PK\x05\x06" + bytes(18),
    }.items():
        yield f"checkpoint: {what}", pretrained.read_weights, a_checkpoint(content)
    yield "checkpoint: deflated", pretrained.read_weights, deflated


# ------------------------------------------------------------------------------------------------- metrics
METRICS = {
    "specs": ["mnist-5k", "lenet5", "noise", "none", "lenet5-half"],
    "top1": 90.0,
    "teacher_top1": 95.0,
    "agreement": 90.0,
    "ece": 0.1,
    "nll": 0.1,
    "kl_to_teacher": 0.1,
    "compression": 2.0,
    "n_test": 10,
    "classes": list("ab"),
    "per_class": [90.0, None],
    "confusion_matrix": [[5, 0], [1, 4]],
    "key": "k",
}
MORE = {"10^400": 10**400, "1e308": 1e308}


def a_metrics(content):
    def made(folder):
        path = folder / "results" / "/".join(METRICS["specs"]) / "metrics.json"
        path.parent.mkdir(parents=True)
        content_of = content() if callable(content) else content
        path.write_text(json.dumps(content_of | {"crc32": atomic._checksum(content_of)}))
        return path

    return made


def metrics_cases():
    for name, (what, value) in itertools.product(METRICS, {**JSON, **MORE}.items()):
        if name != "key":  # any text may be one: it is compared
            yield f"metrics {name}: {what}", lambda path: runs.read([path]), a_metrics(METRICS | {name: value})
    for what, text in {
        "empty": "",
        "a list": "[]",
        "brackets": "[" * 100_000,
        "mappings": '{"a":' * 100_000,
        "no text": "\udcff",
        "a huge number": "9" * 10_000,
    }.items():

        def made(folder, text=text):
            path = folder / "results" / "/".join(METRICS["specs"]) / "metrics.json"
            path.parent.mkdir(parents=True)
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
            return path

        yield f"metrics: {what}", lambda path: runs.read([path]), made


# ------------------------------------------------------------------------------------------------- what is no file
def special(kind):
    def made(folder, name):
        path = folder / name
        {
            "a pipe": os.mkfifo,
            "a folder": os.mkdir,
            "a link to itself": lambda path: os.symlink(path.name, path),
            "a link to nowhere": lambda path: os.symlink("nowhere", path),
            "a link to a device": lambda path: os.symlink("/dev/zero", path),
        }[kind](path)
        return path

    return made


def special_cases():
    opened = {
        "dataset.h5": dataset_file.open_dataset,
        "transfer_set.h5": open_set,
        "x.safetensors": network_file.load,
        "metrics.json": atomic.read_json,
        "x.pth": pretrained.read_weights,
        "list": lambda path: audit._artefacts([path]),
        "params.yaml": plain_yaml.read_mapping,
        "x.npz": lambda path: array_files.npz(groups.Npz(source="npz", path=str(path))),
        "test.npz": lambda path: other_images.read(path, SimpleNamespace(image_shape=(1, 8, 8), classes=("a", "b"))),
        "x.onnx": onnx_file.OnnxClassifier,
        "names.txt": lambda path: readers.read(groups.Card(names_file=str(path), height=8)),
    }
    kinds = ("a pipe", "a folder", "a link to itself", "a link to nowhere", "a link to a device")
    for (name, function), kind in itertools.product(opened.items(), kinds):
        yield f"{name} is {kind}", function, lambda folder, kind=kind, name=name: special(kind)(folder, name)
    for name, kind in itertools.product(("dataset.h5", "x.safetensors", "metrics.json"), kinds):
        yield f"verify {name}, {kind}", verify.kind_of, lambda folder, kind=kind, name=name: special(kind)(folder, name)


KINDS = {
    "HDF5": hdf5_cases,
    "networks": network_cases,
    "arrays and images": array_cases,
    "checkpoints": checkpoint_cases,
    "metrics": metrics_cases,
    "no files": special_cases,
}
CASES = {f"{kind}: {name}": (function, make) for kind, cases in KINDS.items() for name, function, make in cases()}
