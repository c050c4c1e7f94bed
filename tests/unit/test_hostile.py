"""Files made to do harm: refused in one line, with little memory and time, and nothing of theirs is run or followed."""

import io
import json
import pickle
import struct
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from peak import memory_at_most
from safetensors.torch import save_file

from dfkd_steps.datasets import array_files
from dfkd_steps.models import head, pretrained
from dfkd_steps.models.classifier import Description, Whole, build_architecture
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import dataset_file, hdf5, network_file


@pytest.fixture(autouse=True)
def cheap():
    """No test of this file takes long, or 300 MB more than before."""
    started = time.monotonic()
    with memory_at_most(300_000):  # kB
        yield
    assert time.monotonic() - started < 10


def refused(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    for line in str(caught.value).splitlines():
        assert len(line) < 600 and line.isprintable()
    return str(caught.value)


# ------------------------------------------------------------------------------------------------- data sets as HDF5
@pytest.fixture
def dataset(tmp_path):
    """A sound dataset.h5."""
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 6, 6), np.uint8)
    arrays = {"x_train": images, "x_test": images[:9], "y_train": np.arange(40) % 3, "y_test": np.arange(9) % 3}
    dataset_file.write(tmp_path / "dataset.h5", "k", {}, "abc", arrays)
    return tmp_path / "dataset.h5"


def link(name, target):
    def change(file):
        del file[name]
        file[name] = target

    return change


def replace(name, **how):
    def change(file):
        del file[name]
        file.create_dataset(name, **how)

    return change


def references(file):
    replace("y_train", data=np.array([file["x_train"].ref] * 40, h5py.ref_dtype))(file)


def outside(file):
    secret = Path(file.filename).with_name("secret")
    secret.write_bytes(bytes(40 * 36))
    replace("x_train", shape=(40, 1, 6, 6), dtype="u1", external=[(str(secret), 0, 40 * 36)])(file)


def virtual(file):
    layout = h5py.VirtualLayout((40, 1, 6, 6), "u1")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (40, 1, 6, 6))
    del file["x_train"]
    file.create_virtual_dataset("x_train", layout)


def attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


def maps(shape, kind, value=0):
    """Labels that are maps, in both splits."""

    def change(file):
        for split, number in (("train", 40), ("test", 9)):
            replace(f"y_{split}", data=np.full((number, *shape), value, kind))(file)

    return change


def loop(file):
    """A group that holds itself, under the name of a field."""
    del file["x_test"]
    file["x_test"] = file["/"]


HOSTILE = {
    "x_train is not a data set of this file": link("x_train", h5py.ExternalLink("/etc/passwd", "/x")),
    "y_test is not a data set of this file": link("y_test", h5py.SoftLink("/y_train")),
    "x_train is not a data set of  this file": link("x_train", h5py.SoftLink("/nowhere")),
    "x_test is not a data set of this file": loop,
    "x_train lies in another file": outside,
    "x_train lies in  another file": virtual,
    "y_train is object of shape": references,
    "x_train declares (1000000000000, 1, 6, 6)": replace(
        "x_train", shape=(10**12, 1, 6, 6), dtype="u1"
    ),
    "y_train is int64 of shape (40, 1)": replace("y_train", data=np.zeros((40, 1), "i8")),
    "y_train is float64": replace("y_train", data=np.zeros((40,), "f8")),
    "x_train is >u2|x_train is uint16": replace("x_train", data=np.zeros((40, 1, 6, 6), "u2")),
    "x_train is uint8 of shape (40, 6)": replace("x_train", data=np.zeros((40, 6), "u1")),
    "x_train is object": replace("x_train", data=np.full((40, 1, 6, 6), "a", object), dtype=h5py.string_dtype()),
    "x_train is not stored in one piece": replace("x_train", data=np.zeros((40, 1, 6, 6), "u1"), chunks=(8, 1, 6, 6)),
    "x_train is not  stored in one piece": replace("x_train", data=np.zeros((40, 1, 6, 6), "u1"), compression="gzip"),
    "x_train declares (40, 1, 6, 6), more than the": replace("x_train", shape=(40, 1, 6, 6), dtype="u1"),
    "x_test is uint8 of shape (9, 1, 5, 6)": replace("x_test", data=np.zeros((9, 1, 5, 6), "u1")),
    "field y_test is empty": replace("y_test", data=h5py.Empty("i8")),
    "x_train is uint8 of shape (40, 1, 0, 6)": replace("x_train", data=np.zeros((40, 1, 0, 6), "u1")),
    "y_train is uint8 of shape (40, 5, 6), expected uint8 maps": maps((5, 6), "u1"),
    "y_train is int64 of shape (40, 6, 6), expected uint8 maps": maps((6, 6), "i8"),
    "y_test has labels outside 0 to 2": maps((6, 6), "u1", 3),
    "attribute mean has shape (7,)": attribute("mean", np.zeros(7)),
    "attribute mean has shape (0,)": attribute("mean", np.zeros(0)),
    "std [0.] are not a normalisation": attribute("std", [0.0]),
    "mean [nan] and std": attribute("mean", [np.nan]),
    "attribute keep does not give a class": attribute("keep", "[4, 7]"),
    "attribute keep does not give a  class": attribute("keep", "[4, 7, -1]"),
    "is damaged": attribute("classes", "[" * 50_000),
    "is damaged (": attribute("classes", "3"),
    "is  damaged (": attribute("classes", ['["a", "b", "c"]'] * 3),
    "classes has a name that is not printable": attribute("classes", '["a", "b\\u001b[2J", "c"]'),
    "names 1 classes": attribute("classes", '["a"]'),
    "is not a data set of dfkd": attribute("kind", np.zeros(9)),
    "is not a data set of dfkd (": attribute("kind", "transfer_set\n" * 50),
    "attribute mean has shape ()": attribute("mean", h5py.Empty("f8")),
    "attribute key is missing": lambda file: file.attrs.__delitem__("key"),
}  # fmt: skip


@pytest.mark.parametrize("told", HOSTILE)
def test_hostile_data_sets(dataset, told):
    with h5py.File(dataset, "r+") as file:
        HOSTILE[told](file)
    hdf5.seal(dataset)  # whoever means harm can compute a checksum, too
    said = refused(dataset_file.open_dataset, dataset)
    assert any(one.replace("  ", " ").strip() in said for one in told.split("|")), said


# ------------------------------------------------------------------------------------------------- npz
def npz(path, member: bytes | None, compress=True):
    """An archive whose x_train.npy has this content, the other arrays sound."""
    arrays = {"y_train": np.arange(4) % 2, "x_test": np.zeros((4, 5, 5), np.uint8), "y_test": np.arange(4) % 2}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w") as out:
                np.lib.format.write_array(out, values)
        if member is not None:
            archive.writestr("x_train.npy", member)
    return groups.Npz(source="npz", path=str(path))


def header(text: str, version=(1, 0), length=None) -> bytes:
    kind = "<H" if version == (1, 0) else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(kind, len(text) if length is None else length) + text.encode()


SOUND = "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 5, 5), }"


class Touch:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


MEMBERS = {
    "header of 500000000 bytes": header("", (2, 0), 500_000_000) + b" " * 1000,
    "header of 60000 bytes": header("{" * 60_000),
    "claims shape": header(SOUND.replace("(4, 5, 5)", "(4, 10000000, 10000000)")),
    "has shape (-4": header(SOUND.replace("(4,", "(-4,")) + bytes(100),
    "damaged or not an .npz file|has shape": header(SOUND.replace("(4, 5, 5)", "(4.0, 5, 5)")) + bytes(100),
    "damaged or not an .npz file": header("__import__('os').system('touch executed')"),
    "damaged or not an .npz file (": header("[" * 5000),
    "Python objects": header(SOUND.replace("|u1", "|O")) + pickle.dumps([Touch()] * 100),
    "Python  objects": header(SOUND.replace("'|u1'", "[('a', '|u1'), ('b', '|O')]")) + bytes(100),
    " damaged or not an .npz file": b"\x93NUMPY\x07\x00" + bytes(100),
    "  damaged or not an .npz file": b"",
}


@pytest.mark.parametrize("told", MEMBERS)
def test_hostile_arrays(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    said = refused(array_files.npz, npz(tmp_path / "x.npz", MEMBERS[told]))
    assert any(" ".join(one.split()) in said for one in told.split("|")), said
    assert not Path("executed").exists()


def test_a_long_header_that_is_really_there(tmp_path):
    """Packed a thousandfold: 400 MB of header in a file of 400 kB."""
    config = npz(tmp_path / "x.npz", None)
    with zipfile.ZipFile(config.path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("x_train.npy", "w") as out:
        out.write(header("", (2, 0), 400_000_000))
        for _ in range(400):
            out.write(bytes(1_000_000))
    assert Path(config.path).stat().st_size < 1_000_000
    assert "header of 400000000 bytes, more than 10000" in refused(array_files.npz, config)


def test_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "LARGE", 10_000_000)
    config = npz(tmp_path / "x.npz", header(SOUND.replace("(4, 5, 5)", "(4, 2000, 5000)")) + bytes(40_000_000))
    said = refused(array_files.npz, config)
    assert "x_train: unpacks 1" in said and "-fold to 0.0 GB, which images never do" in said
    npz(config.path, header(SOUND.replace("(4, 5, 5)", "(4, 2000, 5000)")) + bytes(40_000_000), compress=False)
    assert "one shape" in refused(array_files.npz, config)  # read, and found not to fit the test images


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_unpack_at_once(tmp_path, method):
    """A kilobyte of bzip2 can be a gigabyte, and Python's reader unpacks it to read its first byte."""
    config = npz(tmp_path / "x.npz", None)
    with zipfile.ZipFile(config.path, "a", method) as archive:
        archive.writestr("x_train.npy", header(SOUND) + bytes(100))
    assert "x_train is compressed in a way that numpy never uses" in refused(array_files.npz, config)


def test_names_that_lead_elsewhere(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("../../x_train.npy", b"")
        archive.writestr("/etc/y_train.npy", b"")
    said = refused(array_files.npz, groups.Npz(source="npz", path=str(tmp_path / "x.npz")))
    assert "x_train is missing" in said
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["x.npz"]


# ------------------------------------------------------------------------------------------------- checkpoints
CODE = {
    "plain": pickle.dumps(Touch()),
    "in a list": pickle.dumps([1, {"a": Touch()}]),
    "by name": b"cposix\nsystem\n(S'touch executed'\ntR.",
    "builtins": b'c__builtin__\neval\n(S\'open("executed", "w")\'\ntR.',
    "torch itself": b"ctorch.hub\nload\n(S'x'\nS'y'\ntR.",
    "protocol 4": pickle.dumps(Touch(), 4),
}


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("form", ["bare", "zip"])
def test_pickles_with_code(tmp_path, monkeypatch, name, form):
    monkeypatch.chdir(tmp_path)
    if form == "bare":
        Path("x.pth").write_bytes(CODE[name])
    else:
        with zipfile.ZipFile("x.pth", "w") as archive:
            archive.writestr("x/data.pkl", CODE[name])
            archive.writestr("x/version", "3\n")
    assert "pickled code" in refused(pretrained.read_weights, Path("x.pth"))
    assert not Path("executed").exists()


def test_a_tensor_larger_than_its_storage(tmp_path):
    """What torch itself refuses: sizes and strides that reach beyond the bytes."""
    content = io.BytesIO()
    torch.save({"w": torch.zeros(4)}, content)
    raw = bytearray(content.getvalue())
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    (name,) = (one for one in members if one.endswith("data.pkl"))
    members[name] = members[name].replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85", 1)
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        for one, value in members.items():
            archive.writestr(one, value)
    refused(pretrained.read_weights, tmp_path / "x.pth")


# ------------------------------------------------------------------------------------------------- safetensors
DESCRIPTION = {"builder": "arch", "name": "lenet5", "classes": list("0123456789"), "image_shape": [1, 28, 28], "mean": [0.1],
               "std": [0.3], "arguments": {}}  # fmt: skip
DESCRIPTIONS = {
    "description is not": {},
    "description is  not": {**DESCRIPTION, "extra": 1},
    "description is not ": {**DESCRIPTION, "image_shape": [1, 28, 10**9]},
    " description is not": {**DESCRIPTION, "image_shape": "abc"},
    "description  is not": {**DESCRIPTION, "classes": 3},
    "description  is  not": {**DESCRIPTION, "mean": [0.1, 0.2]},
    "description  is  not ": {**DESCRIPTION, "mean": ["x"]},
    "mean and std are not a normalisation": {**DESCRIPTION, "std": [0.0]},
    " description is not ": {**DESCRIPTION, "arguments": []},
    "no such architecture": {**DESCRIPTION, "name": "../x"},
    "no such  architecture": {**DESCRIPTION, "name": "os:system"},
    "builder 'pickle' is unknown": {**DESCRIPTION, "builder": "pickle"},
    "weights do not fit": {**DESCRIPTION, "classes": list("0123456")},
}


@pytest.mark.parametrize("told", DESCRIPTIONS)
def test_hostile_descriptions(tmp_path, told):
    weights = build_architecture("lenet5", 10, (1, 28, 28)).state_dict()
    content = {"kind": network_file.KIND, "key": "k", "description": DESCRIPTIONS[told], "provenance": {}}
    content["crc32"] = network_file.checksum(content, weights)
    save_file(weights, tmp_path / "x.safetensors", {network_file.METADATA: json.dumps(content)})
    assert " ".join(told.split()) in refused(network_file.load, tmp_path / "x.safetensors")


WHOLE = {"count": 12, "keep": list(range(10)), "arguments": {}}


@pytest.mark.parametrize(
    ("whole", "rows"),
    [({}, 12), ({**WHOLE, "count": 10**12}, 12), ({**WHOLE, "keep": [0]}, 12), ({**WHOLE, "keep": [*range(9), 12]}, 12),
     ({**WHOLE, "keep": [*range(9), "x"]}, 12), ({**WHOLE, "arguments": 1}, 12), (3, 12), (WHOLE, 11), (WHOLE, 0),
     ({**WHOLE, "count": 100_001}, 100_001)],
)  # fmt: skip
def test_hostile_words_on_what_a_network_was_before_it_was_cut(tmp_path, whole, rows):
    tensors = build_architecture("lenet5", 10, (1, 28, 28)).state_dict()
    tensors |= {"whole/fc3.bias": torch.zeros(rows)} if rows else {}
    content = {"kind": network_file.KIND, "key": "k", "description": DESCRIPTION, "provenance": {}, "whole": whole}
    content["crc32"] = network_file.checksum(content, tensors)
    save_file(tensors, tmp_path / "x.safetensors", {network_file.METADATA: json.dumps(content)})
    assert "what it was before it was cut is not valid" in refused(network_file.load, tmp_path / "x.safetensors")


def test_a_head_of_no_values(tmp_path):
    """A thousand million rows of nothing take no room in a file; a network of so many classes takes 4 GB and more."""
    net, path = build_architecture("lenet5", 10, (1, 28, 28)), tmp_path / "x.safetensors"
    description = Description("arch", "lenet5", tuple("0123456789"), (1, 28, 28), (0.1,), (0.3,))
    network_file.save(path, net, description, "k", {}, whole=Whole(12, tuple(range(10)), {"x": torch.zeros(12, 0)}))
    assert "what it was before it was cut is not valid" in refused(network_file.load, path)


def test_a_head_that_is_larger_than_its_description_says(tmp_path):
    """Seen in outline: no network of that size is made."""
    net, path = build_architecture("lenet5", 10, (1, 28, 28)), tmp_path / "x.safetensors"
    description = Description("arch", "lenet5", tuple("0123456789"), (1, 28, 28), (0.1,), (0.3,))
    whole = Whole(90_000, tuple(range(10)), {"whatever": torch.zeros(90_000, 1)})
    network_file.save(path, net, description, "k", {}, whole=whole)
    with memory_at_most(20_000):  # kB; its last layer alone takes 30 MB
        told = refused(lambda place: head.uncut(network_file.load(place), place), path)
    assert "what it was before it was cut does not fit" in told


def test_a_head_of_another_network(tmp_path):
    path = tmp_path / "x.safetensors"
    description = Description("arch", "lenet5", tuple("0123456789"), (1, 28, 28), (0.1,), (0.3,))
    net = build_architecture("lenet5", 10, (1, 28, 28))
    whole = Whole(12, tuple(range(10)), {name: torch.zeros(12, 3) for name in net.state_dict()})
    network_file.save(path, net, description, "k", {}, whole=whole)
    assert "what it was before it was cut does not fit" in refused(lambda made: head.uncut(network_file.load(made), made), path)


def test_a_header_that_claims_more_than_there_is(tmp_path):
    path = tmp_path / "x.safetensors"
    description = Description("arch", "lenet5", tuple("0123456789"), (1, 28, 28), (0.1,), (0.3,))
    network_file.save(path, build_architecture("lenet5", 10, (1, 28, 28)), description, "k", {})
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    about = json.loads(raw[8 : 8 + length])
    name = next(one for one in about if one != "__metadata__")
    for change in (
        {"shape": [10**15]},
        {"shape": [-1]},
        {"data_offsets": [0, 10**15]},
        {"dtype": "X9"},
        {"data_offsets": [8, 0]},
    ):
        text = json.dumps(about | {name: about[name] | change}).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
        assert "is damaged" in refused(network_file.load, path)
    for claimed in (0, 1, 1 << 40, (1 << 64) - 1):
        path.write_bytes(struct.pack("<Q", claimed) + raw[8:])
        assert "is damaged" in refused(network_file.load, path)
