"""transfer_set.h5: what was written is read, and every fault of a file is found."""

import json
import pickle
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peak import memory_at_most
from small_set import BATCHES, LAYOUT, batch, fill

from dfkd_steps.runtime import disk
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.storage import transfer_set, verify
from dfkd_steps.storage.image_format import to_stored, to_unit
from dfkd_steps.storage.transfer_set import TransferSet


@pytest.fixture
def made(tmp_path):
    """A sound transfer set of 32 samples."""
    fill(tmp_path / "transfer_set.h5")
    return tmp_path / "transfer_set.h5"


def test_what_was_written_is_read(made):
    with TransferSet(made) as opened:
        assert (
            len(opened) == 32
            and opened.key == "k"
            and opened.provenance == {"step": "synthesize"}
            and opened.metadata == {"label": "test"}
        )
        assert opened.layout == LAYOUT
        for name in batch(0):
            expected = np.concatenate([batch(index)[name] for index in range(BATCHES)])
            np.testing.assert_array_equal(opened.read(name), expected)
        assert [start for start, _ in opened.chunks("labels", rows=10)] == [0, 10, 20, 30]
        assert opened.nbytes("images") == 32 * 16
        assert transfer_set.class_counts(opened).sum() == 32
    assert verify.verify_transfer_set(made) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 8 * BATCHES - 1), max_size=100))
def test_any_rows(made, wanted):
    with TransferSet(made) as opened, h5py.File(made, "r") as file:
        for name, _, _ in LAYOUT.fields():
            found = opened.read(name, np.array(wanted, int))
            assert found.dtype == file[name].dtype and found.flags.writeable
            np.testing.assert_array_equal(found, file[name][:][np.array(wanted, int)])


def test_a_process_that_gets_a_set_opens_its_file(made, monkeypatch):
    """A worker of a DataLoader that is not forked, as on macOS and from Python 3.14 on, gets it as bytes."""
    monkeypatch.chdir(made.parent)
    with TransferSet(made.name) as transfer:
        sent = pickle.dumps(transfer)
        assert transfer.read("logits").tobytes() not in sent
        monkeypatch.chdir("/")
        with pickle.loads(sent) as again:
            assert len(again) == len(transfer) and again.metadata == transfer.metadata and again.key == transfer.key
            for here, there in zip(transfer[3], again[3]):
                assert np.array_equal(here, there)
            assert isinstance(again.fields["images"].base, type(transfer.fields["images"].base))
    made.unlink()
    with pytest.raises(UserError, match=r"transfer_set\.h5: no such"):
        pickle.loads(sent)


def test_what_is_read_is_a_copy(made):
    before = made.read_bytes()
    with TransferSet(made) as opened:
        first = opened.read("images")
        first[:] = 0
        next(opened.chunks("images"))[1]["images"][:] = 0
        assert opened.read("images").any()
        image, logits = opened[3]
        np.testing.assert_array_equal(image, opened.read("images")[3].astype(np.float32) / 255)
        assert logits.flags.writeable and np.array_equal(logits, opened.read("logits")[3])
    assert made.read_bytes() == before


@given(st.lists(st.floats(-0.5, 1.5, width=32), min_size=1, max_size=20))
def test_to_stored_rounds_to_the_nearest_of_256(values):
    values = np.array(values, np.float32)
    stored = to_stored(values, "uint8")
    assert np.abs(stored.astype(np.float64) - np.clip(values, 0, 1).astype(np.float64) * 255).max() <= 0.5 + 1e-4
    np.testing.assert_array_equal(to_stored(to_unit(stored), "uint8"), stored)


def test_to_stored_keeps_floats_in_range_and_refuses_nan():
    kept = to_stored(np.array([-1.0, 0.25, 2.0]), "float16")
    assert kept.tolist() == to_unit(kept).tolist() == [0.0, 0.25, 1.0] and to_unit(kept).dtype == np.float32
    for bad in (np.nan, np.inf):
        with pytest.raises(FloatingPointError, match="not a finite number"):
            to_stored(np.array([0.5, bad]), "uint8")


# ------------------------------------------------------------------------------------------------ faults of a file
def replace(file, name, **how):
    """Give the field ``name`` anew; ``data`` or a shape without data."""
    del file[name]
    file.create_dataset(name, **how)


def set_values(name, rows, value):
    def change(file):
        file[name][rows] = value

    return change


def link(name, made_by):
    def change(file):
        del file[name]
        file[name] = made_by

    return change


def attribute(name, value):
    def change(file):
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    return change


def external(file):
    del file["images"]
    Path(file.filename).with_name("secret").write_bytes(bytes(512))
    file.create_dataset("images", (32, 1, 4, 4), "u1", external=[(str(Path(file.filename).with_name("secret")), 0, 512)])


def virtual(file):
    del file["images"]
    layout = h5py.VirtualLayout((32, 1, 4, 4), "u1")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "images", (32, 1, 4, 4))
    file.create_virtual_dataset("images", layout)


def references(file):
    replace(file, "labels", data=np.array([file["logits"].ref] * 32, h5py.ref_dtype))


def compact(file):
    del file["labels"]
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.COMPACT)
    file.create_dataset("labels", (32,), "i8", dcpl=how)


IMAGES = np.zeros((32, 1, 4, 4), np.uint8)
FAULTS = {
    "labels are not the argmax": set_values("labels", slice(0, 32), 0),
    "has labels outside 0 to 2": set_values("labels", 3, 7),
    "has labels outside 0 to 2;": set_values("labels", 3, -1),
    "logits has values that are not finite": set_values("logits", 2, np.nan),
    "targets has values that are not finite": set_values("targets", 31, np.inf),
    "targets are not probabilities": set_values("targets", 0, 0.9),
    "targets are not  probabilities": set_values("targets", 0, [-0.5, 0.5, 1.0]),
    "round is negative": set_values("round", 0, -1),
    "field images is not a data set of this file": link("images", h5py.ExternalLink("elsewhere.h5", "/images")),
    "field logits is not a data set of this file": link("logits", h5py.SoftLink("/targets")),
    "field images lies in another file": external,
    "field images lies in  another file": virtual,
    "labels is object of shape": references,
    "field round is missing": lambda file: file.__delitem__("round"),
    "field labels is not a data set": lambda file: (file.__delitem__("labels"), file.create_group("labels")),
    "field labels is empty": lambda file: (file.__delitem__("labels"), file.create_dataset("labels", data=h5py.Empty("i8"))),
    "logits have shape (32,)": lambda file: replace(file, "logits", data=np.zeros(32, "f4")),
    "targets is float32 of shape (32, 4)": lambda file: replace(file, "targets", data=np.zeros((32, 4), "f4")),
    "labels is int32": lambda file: replace(file, "labels", data=np.zeros(32, "i4")),
    "logits is >f4": lambda file: replace(file, "logits", data=np.zeros((32, 3), ">f4")),
    "images are int16": lambda file: replace(file, "images", data=np.zeros((32, 1, 4, 4), "i2")),
    "round is int32 of shape (31,)": lambda file: replace(file, "round", data=np.zeros(31, "i4")),
    "field images is not stored in one piece": lambda file: replace(file, "images", data=IMAGES, chunks=(8, 1, 4, 4)),
    "field images is not stored in  one piece": lambda file: replace(file, "images", data=IMAGES, compression="gzip"),
    "field labels is not stored in one piece": compact,
    "field images declares (32, 1, 4, 4), more than the": lambda file: replace(file, "images", shape=(32, 1, 4, 4), dtype="u1"),
    "images have values outside [0,1]": lambda file: replace(file, "images", data=np.full((32, 1, 4, 4), 1.5, "f4")),
    "images have  values outside [0,1]": lambda file: replace(file, "images", data=np.full((32, 1, 4, 4), -0.5, "f4")),
    "logits (32, 0); only N may be 0": lambda file: replace(file, "logits", data=np.zeros((32, 0), "f4")),
    "source is negative": lambda file: file.create_dataset("source", data=np.full(32, -1, "i8")),
    "source is float32 of shape (32,), expected int64": lambda file: file.create_dataset("source", data=np.zeros(32, "f4")),
    "weights are negative": lambda file: file.create_dataset("weights", data=np.full(32, -1, "f4")),
    "weights have the mean 3": lambda file: file.create_dataset("weights", data=np.full(32, 3, "f4")),
    "weights have the mean 0.5": lambda file: file.create_dataset("weights", data=np.full(32, 0.5, "f4")),
    "is not a transfer set (attribute kind is 'dataset'": attribute("kind", "dataset"),
    "is not a transfer set (attribute kind is None": attribute("kind", [1, 2]),
    "has schema version 1, but this program reads 2": attribute("schema_version", 1),
    "has schema version 3, but this program reads 2": attribute("schema_version", 3),
    "has schema version [2 2]": attribute("schema_version", [2, 2]),
    "has schema version None": attribute("schema_version", "2"),
    "attribute key is missing": attribute("key", None),
    "attribute metadata is not a JSON mapping": attribute("metadata", "[1]"),
    "attribute provenance is not a JSON mapping": attribute("provenance", "[" * 100_000),
}  # fmt: skip


@pytest.mark.parametrize("told", FAULTS)
def test_verify_finds(made, told):
    with h5py.File(made, "r+") as file:
        FAULTS[told](file)
    found = verify.verify_transfer_set(made)
    assert any(told.replace("  ", " ") in line for line in found), found
    assert all(len(line.splitlines()) == 1 and len(line) < 500 for line in found)


def test_faults_are_told_by_rows_and_not_without_end(made, monkeypatch):
    with h5py.File(made, "r+") as file:
        file["round"][20] = -1
    with TransferSet(made) as opened:
        width = sum(map(opened.nbytes, batch(0))) // len(opened)
    monkeypatch.setattr(disk, "PIECE", 8 * width)
    assert verify.verify_transfer_set(made) == ["rows 16 to 23: round is negative"]
    monkeypatch.setattr(disk, "PIECE", width)
    with h5py.File(made, "r+") as file:
        file["round"][:] = -1
    *faults, last = verify.verify_transfer_set(made)
    assert faults[20] == "rows 20 to 20: round is negative" and len(faults) == 21
    assert last == "stopped here; there may be more faults"


def test_a_set_is_for_the_shape_the_classes_and_the_task_of_its_teacher(made):
    described = {"image_shape": (1, 4, 4), "num_classes": 3, "task": "classification"}
    with TransferSet(made) as opened:
        opened.require_fit(SimpleNamespace(**described))
        for change in ({"image_shape": (3, 4, 4)}, {"image_shape": (1, 4, 5)}, {"num_classes": 4}):
            with pytest.raises(UserError, match=r"but the teacher takes .*; make the set for this teacher"):
                opened.require_fit(SimpleNamespace(**described | change))
        with pytest.raises(UserError, match="is for classification, but the teacher is for segmentation"):
            opened.require_fit(SimpleNamespace(**described | {"task": "segmentation"}))


@pytest.mark.parametrize("name", ["logits", "weights"])
def test_no_student_learns_from_what_is_not_finite(made, name):
    """Its loss would be no number, hours later."""
    with h5py.File(made, "r+") as file:
        file.create_dataset("weights", data=np.ones(32, "f4"))
        file[name][31] = np.inf
    with TransferSet(made) as opened, pytest.raises(UserError, match=f"{name} has values that are not finite; delete it"):
        opened.require_fit(SimpleNamespace(image_shape=(1, 4, 4), num_classes=3, task="classification"))


def test_structural_faults_are_all_told_and_stop_every_reader(made):
    with h5py.File(made, "r+") as file:
        del file["labels"], file["logits"]
    assert len(verify.verify_transfer_set(made)) == 2
    with pytest.raises(UserError, match=f"{made}: field logits is missing; give a transfer_set.h5 written by dfkd"):
        TransferSet(made)
    placed = made.parent / "results/mnist/lenet5/noise/transfer_set.h5"
    placed.parent.mkdir(parents=True)
    made.rename(placed)
    with pytest.raises(UserError, match=f"{placed}: field logits is missing; delete it and make it again"):
        TransferSet(placed)


def test_a_set_without_samples(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs.update(kind="transfer_set", schema_version=2, key="k", provenance="{}", metadata="{}")
        for name, shape, kind in LAYOUT.fields():
            file.create_dataset(name, (0, *shape), kind)
    assert verify.verify_transfer_set(tmp_path / "x.h5") == ["holds no samples"]


def test_huge_declared_shapes_take_no_memory_and_no_time(made):
    started = time.monotonic()
    with memory_at_most(50_000):  # kB
        for name, shape, kind in LAYOUT.fields():
            with h5py.File(made, "r+") as file:
                replace(file, name, shape=(10**12, *shape), dtype=kind)
            assert f"field {name} declares (1000000000000" in " ".join(verify.verify_transfer_set(made))
    assert time.monotonic() - started < 2


def test_many_networks_in_one_place_take_no_memory(made):
    """Each lies within the file, and all together are 200 times as large."""
    raw = made.read_bytes()
    with h5py.File(made, "r+") as file:
        file.create_dataset("networks/0", data=np.ones(1_000_000, np.uint8))
        for number in range(1, 200):
            file["networks"][str(number)] = file["networks/0"]  # a hard link
    many = pytest.raises(UserError, match=r"field networks/1\S* declares \(1000000,\), more than the")
    with memory_at_most(20_000), many:  # kB
        TransferSet(made)
    made.write_bytes(raw)
    with h5py.File(made, "r+") as file:
        file.create_dataset("networks/student", (3 * 10**9,), "u1", chunks=(10**6,))
    with pytest.raises(UserError, match="field networks/student is not stored in one piece"):
        TransferSet(made)


def test_a_list_of_long_texts_as_attribute_takes_no_memory(made):
    """Texts that refer to one object in the file, each of them a megabyte once read."""
    with h5py.File(made, "r+") as file:
        del file.attrs["key"]
        file.attrs.create("key", ["x" * 1_000_000] * 200, dtype=h5py.string_dtype())
    with memory_at_most(50_000), pytest.raises(UserError, match="attribute key is missing"):  # kB
        TransferSet(made)


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.6, 0.99])
def test_truncated_files(made, share):
    raw = made.read_bytes()
    made.write_bytes(raw[: int(len(raw) * share)])
    (found,) = verify.verify_transfer_set(made)
    assert found.startswith(f"{made}: is damaged")


def test_missing_and_foreign_files(tmp_path):
    assert "no such file" in verify.verify_transfer_set(tmp_path / "nix.h5")[0]
    (tmp_path / "x.h5").write_text(json.dumps({"key": "k"}))
    assert "is damaged or not an HDF5 file" in verify.verify_transfer_set(tmp_path / "x.h5")[0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_changed_byte_in_the_data_never_raises(made, where, change):
    # Only the data and not HDF5's own structures: libhdf5 itself can crash on those.
    with h5py.File(made, "r") as file:
        spans = [(file[name].id.get_offset(), file[name].nbytes) for name in ("images", "logits", "labels", "targets")]
    total = sum(size for _, size in spans)
    at = int(where * total)
    ends = np.cumsum([size for _, size in spans])
    span = int(np.searchsorted(ends, at, side="right"))
    raw = bytearray(made.read_bytes())
    raw[spans[span][0] + at - (ends[span] - spans[span][1])] ^= change
    made.with_name("y.h5").write_bytes(raw)
    assert isinstance(verify.verify_transfer_set(made.with_name("y.h5")), list)
