"""HDF5 artefacts: rows lie where HDF5 says, a failed write is an error, and a changed file is known."""

import errno
import os
import resource
import signal
import struct
import time

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfkd_steps.pipeline import fingerprint
from dfkd_steps.reporting import inspect
from dfkd_steps.runtime import apart, disk
from dfkd_steps.runtime.errors import UserError, errno_of
from dfkd_steps.storage import dataset_file, hdf5, verify

VALUES = np.random.default_rng(0).integers(0, 256, (103, 3, 5), np.uint8)
FIELDS = {"x": (VALUES.shape, "u1"), "n": ((103,), "i8")}
BLOBS = {"kept/a": b"one", "kept/b": bytes(3000)}


def write(path, sizes=(103,), attributes=None, blobs=None, fields=FIELDS):
    """VALUES, written in parts of these sizes, the last part first."""
    made = hdf5.Rows(path, fields)
    ends = np.cumsum(sizes).tolist()
    for start, stop in reversed(list(zip([0, *ends], ends))):
        made.write("x", start, VALUES[start:stop])
        made.write("n", start, np.arange(start, stop))
    made.finish(attributes or {"key": "k"}, blobs or {})
    return path


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 40), max_size=12))
def test_parts_of_any_size_in_any_order_give_the_same_bytes(tmp_path, sizes):
    cut = np.minimum(np.cumsum([0, *sizes]), 103)
    write(tmp_path / "a.h5", [*np.diff(cut).tolist(), 103 - int(cut[-1])])
    with h5py.File(tmp_path / "a.h5", "r") as file:
        np.testing.assert_array_equal(file["x"][:], VALUES)
        np.testing.assert_array_equal(file["n"][:], np.arange(103))
        assert hdf5.faults(file, ["x", "n"]) == [] and dict(file.attrs) == {"key": "k"}
        found = hdf5.mapped(tmp_path / "a.h5", hdf5.places(file, ["x", "n"]))
    np.testing.assert_array_equal(found["x"], VALUES)
    np.testing.assert_array_equal(found["n"], np.arange(103))
    assert not found["x"].flags.writeable
    assert (tmp_path / "a.h5").read_bytes() == write(tmp_path / "b.h5").read_bytes()


def test_rows_that_are_there_stay_whatever_structure_was_written(tmp_path):
    attributes = {"key": "k", "long": "x" * 100_000, "mean": np.arange(3.0)}
    expected = write(tmp_path / "a.h5", attributes=attributes, blobs=BLOBS).read_bytes()
    path = write(tmp_path / "b.h5", attributes={"key": "another", "y" * 60: "z" * 70_000}, blobs={"other": bytes(50_000)})
    again = hdf5.Rows(path, FIELDS, keep=True)
    assert np.concatenate([values for _, values in again.pieces("x", 103)]).tobytes() == VALUES.tobytes()
    again.finish(attributes, BLOBS)
    assert path.read_bytes() == expected
    with h5py.File(path, "r") as file:
        assert file.attrs["long"] == "x" * 100_000 and file["kept/a"][:].tobytes() == b"one"
        assert len(hdf5.mapped(path, hdf5.places(file, ["kept/b"]))["kept/b"]) == 3000


def test_fewer_rows_than_there_is_room_for(tmp_path):
    larger = hdf5.Rows(tmp_path / "a.h5", {name: ((500, *shape[1:]), kind) for name, (shape, kind) in FIELDS.items()})
    larger.write("x", 0, VALUES)
    larger.write("n", 0, np.arange(103))
    larger.first(103).finish({"key": "k"}, {})
    assert os.listdir(tmp_path) == ["a.h5"]
    assert (tmp_path / "a.h5").read_bytes() == write(tmp_path / "b.h5").read_bytes()


def test_a_field_without_rows(tmp_path):
    made = hdf5.Rows(tmp_path / "x.h5", {"x": ((0, 4), "u1"), "n": ((3,), "i8")})
    made.write("x", 0, np.zeros((0, 4), np.uint8))
    made.write("n", 0, np.arange(3))
    made.finish({}, {})
    with h5py.File(tmp_path / "x.h5", "r") as file:
        assert hdf5.faults(file, ["x", "n"]) == []
        found = hdf5.mapped(tmp_path / "x.h5", hdf5.places(file, ["x", "n"]))
    assert found["x"].shape == (0, 4) and found["n"].tolist() == [0, 1, 2]


def test_every_changed_byte_breaks_the_seal(tmp_path):
    path = write(tmp_path / "x.h5")
    assert hdf5.broken_seal(path) is None
    raw = path.read_bytes()
    for place in [*range(0, len(raw), 61), *range(len(raw) - hdf5.LENGTH, len(raw))]:
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 16]) + raw[place + 1 :])
        assert "is damaged" in hdf5.broken_seal(path), place
    for other in (b"", raw[:5], raw[:-1], raw + b" ", raw[100:], raw[: -hdf5.LENGTH]):
        path.write_bytes(other)
        with pytest.raises(UserError, match=r"x.h5: is damaged.*; delete it and make it again"):
            hdf5.check(path)
    path.unlink()
    hdf5.check(path)  # a missing file is told of where it is opened


@pytest.fixture(params=["posix_fallocate", "macOS"])
def system(request, monkeypatch):
    """With the call that allocates, and without it."""
    if request.param == "macOS":
        monkeypatch.delattr(os, "posix_fallocate")
    return request.param


def test_bytes_and_room_do_not_depend_on_the_system(tmp_path, system):
    write(tmp_path / "x.h5")
    assert hdf5.broken_seal(tmp_path / "x.h5") is None
    large = {"x": ((1000, 1000), "u1"), "n": ((1000,), "i8")}
    hdf5.Rows(tmp_path / "y.h5", large)
    assert os.stat(tmp_path / "y.h5").st_blocks * 512 >= 1_008_000  # allocated before any row is written
    if system == "macOS":
        content = (tmp_path / "x.h5").read_bytes()
        with pytest.MonkeyPatch.context() as other:
            other.setattr(os, "posix_fallocate", lambda descriptor, start, size: os.truncate(descriptor, size), raising=False)
            assert write(tmp_path / "x.h5").read_bytes() == content


@pytest.mark.parametrize("room", [0, 100, 50_000, 100_000, 166_000])
def test_no_room_is_known_before_any_row_is_written(tmp_path, system, room):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            hdf5.Rows(tmp_path / "x.h5", {"x": ((100, 1000), "u1"), "n": ((100,), "i8")})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert errno_of(caught.value) == errno.EFBIG


def test_room_that_goes_away_before_the_end(tmp_path, capfd):
    made = hdf5.Rows(tmp_path / "x.h5", {"x": ((100, 1000), "u1")})
    made.write("x", 0, np.ones((100, 1000), np.uint8))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (110_000, before[1]))
    try:
        with pytest.raises((OSError, RuntimeError)) as caught:
            made.finish({"key": "k"}, {"network": bytes(200_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert errno_of(caught.value) == errno.EFBIG
    assert capfd.readouterr().err == ""
    assert hdf5.broken_seal(tmp_path / "x.h5").startswith("is damaged")
    hdf5.Rows(tmp_path / "x.h5", {"x": ((100, 1000), "u1")}, keep=True).finish({"key": "k"}, {})
    assert hdf5.broken_seal(tmp_path / "x.h5") is None


def test_attributes_of_other_kinds_are_not_read(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["text"], file.attrs["numbers"], file.attrs["bytes"] = "a", [1, 2], np.bytes_("b")
        file.attrs.create("texts", ["a" * 1000] * 100, dtype=h5py.string_dtype())
        h5py.h5a.create(file.id, b"lists", h5py.h5t.vlen_create(h5py.h5t.STD_I64LE), h5py.h5s.create_simple((2,)))
        file.attrs["empty"], file.attrs["many"] = h5py.Empty("f8"), np.zeros(hdf5.MAX_NUMBERS + 1, "u1")
    with h5py.File(tmp_path / "x.h5", "r") as file:
        names = ("text", "numbers", "bytes", "texts", "lists", "empty", "many", "missing")
        assert [hdf5.text(file, name) for name in names] == ["a", *[None] * 7]
        assert [None if (found := hdf5.numbers(file, name)) is None else found.tolist() for name in names] == [
            None, [1, 2], None, None, None, None, None, None]  # fmt: skip


HEAP, OBJECT = b"GCOL", 24  # of texts of any length; where the size of its first object stands


def test_a_file_that_hdf5_never_comes_to_an_end_with(tmp_path, monkeypatch):
    """The size of a text forged so that the library, reading its heap, comes by the same object again and again."""
    monkeypatch.setattr(hdf5, "SECONDS", 1)
    images, labels = np.zeros((6, 1, 4, 4), np.uint8), np.arange(6) % 3
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    path = tmp_path / "dataset.h5"
    dataset_file.write(path, "k", {}, "abc", arrays)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<Q", raw, raw.index(HEAP) + OBJECT, 16)
    path.write_bytes(raw)
    hdf5.seal(path)
    if apart.WORKER.child:  # it ends here and is counted now: what it computed for other tests is not of this one
        os.kill(apart.WORKER.child, signal.SIGKILL)
        os.waitpid(apart.WORKER.child, 0)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    for opened in (dataset_file.open_dataset, inspect.summary):
        with pytest.raises(UserError, match=r"dataset.h5: is damaged.* \(HDF5 does not finish with it in 1 s\)"):
            opened(path)
    assert "HDF5 does not finish" in verify.verify(path)[0]
    # By the time of a processor, and not only by that of a clock, which is thirty times as long.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 15


def break_down(file):
    os.kill(os.getpid(), signal.SIGSEGV)


def wait(file):
    time.sleep(60)


def key_and_a_million_bytes(file):
    return hdf5.text(file, "key"), bytes(1_000_000)


def raise_a_line(file):
    raise UserError("a: line")


def test_hdf5_that_breaks_down_takes_nothing_with_it(tmp_path, capfd):
    path = write(tmp_path / "x.h5")
    with pytest.raises(ValueError, match="HDF5 crashes on it"):
        hdf5.structure(path, break_down)
    assert capfd.readouterr().err == ""
    assert hdf5.structure(path, key_and_a_million_bytes)[0] == "k"  # by another process


def test_hdf5_that_waits_for_something_is_ended_too(tmp_path, monkeypatch):
    monkeypatch.setattr(apart, "PATIENCE", 1)
    monkeypatch.setattr(hdf5, "SECONDS", 1)
    path = write(tmp_path / "x.h5")
    with pytest.raises(ValueError, match="HDF5 does not finish with it in 1 s"):
        hdf5.structure(path, wait)


def test_what_is_found_or_raised_comes_back(tmp_path):
    path = write(tmp_path / "x.h5")
    large = hdf5.structure(path, key_and_a_million_bytes)  # more than a pipe holds
    assert large == ("k", bytes(1_000_000))
    with pytest.raises(UserError, match="a: line"):
        hdf5.structure(path, raise_a_line)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        hdf5.structure(tmp_path / "missing.h5", wait)
    assert errno_of(caught.value) == errno.ENOENT


def test_a_process_that_was_ended_or_belongs_to_another_is_replaced(tmp_path):
    path = write(tmp_path / "x.h5")
    assert hdf5.structure(path, key_and_a_million_bytes)[0] == "k"
    os.kill(apart.WORKER.child, signal.SIGKILL)
    os.waitid(os.P_PID, apart.WORKER.child, os.WEXITED | os.WNOWAIT)
    assert hdf5.structure(path, key_and_a_million_bytes)[0] == "k"
    mine = apart.WORKER.child
    if not (forked := os.fork()):
        os._exit(hdf5.structure(path, key_and_a_million_bytes)[0] != "k" or apart.WORKER.child == mine)
    assert os.waitpid(forked, 0)[1] == 0
    assert hdf5.structure(path, key_and_a_million_bytes)[0] == "k" and apart.WORKER.child == mine


def test_only_this_module_opens_hdf5():
    """Whatever opens a file in another way can hang."""
    for path in fingerprint.HERE.rglob("*.py"):
        assert path.name == "hdf5.py" or "h5py.File" not in path.read_text(), path


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(28, "x"), 28), (RuntimeError("write failed: errno = 28, error"), 28),
     (RuntimeError("I/O error: File too large (os error 27)"), 27), (RuntimeError("mat1 and mat2"), None), (OSError("x"), None)],
)  # fmt: skip
def test_what_the_system_said(error, told):
    assert errno_of(error) == told
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("a pass failed") from error
    assert errno_of(caught.value) == told


def test_an_error_while_hdf5_writes_the_structure_is_raised(tmp_path, monkeypatch):
    """Also where all that follows has room again: the file would be sealed with a piece missing."""
    made = hdf5.Rows(tmp_path / "x.h5", {"x": ((3, 2), "u1")})
    plain, places = disk.write_at, []

    def full_once(file, place, content):
        places.append(place)
        if len(places) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(file, place, content)

    monkeypatch.setattr(disk, "write_at", full_once)
    with pytest.raises(OSError, match="No space left on device"):
        made.finish({"key": "k"}, {})


def test_an_error_while_hdf5_sets_the_size_is_raised(tmp_path, monkeypatch):
    made = hdf5.Rows(tmp_path / "x.h5", {"x": ((3, 2), "u1")})

    def too_large(size):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(made.file, "truncate", too_large)
    with pytest.raises(OSError, match="File too large"):
        made.finish({"key": "k"}, {})
