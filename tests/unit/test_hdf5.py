"""HDF5 artefacts: what is appended is there, a failed write is an error, and a changed file is known."""

import resource

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfkd_steps.runtime.errors import UserError, os_error_text
from dfkd_steps.storage import hdf5

VALUES = np.random.default_rng(0).integers(0, 256, (103, 3, 5), np.uint8)


def write(path, sizes=(103,), chunk=10):
    """VALUES, appended in parts of these sizes."""
    with hdf5.create(path, {"x": (VALUES.shape, "u1", chunk), "n": ((103,), "i8", chunk)}) as (file, fields):
        file.attrs["key"] = "k"
        start = 0
        for size in sizes:
            fields["x"].append(VALUES[start : start + size])
            fields["n"].append(np.arange(start, start + size))
            start += size
    return path


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 40), max_size=12), st.sampled_from([1, 7, 10, 103]))
def test_parts_of_any_size_give_the_same_bytes(tmp_path, sizes, chunk):
    cut = np.minimum(np.cumsum([0, *sizes]), 103)
    write(tmp_path / "a.h5", [*np.diff(cut).tolist(), 103 - int(cut[-1])], chunk)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        np.testing.assert_array_equal(file["x"][:], VALUES)
        np.testing.assert_array_equal(file["n"][:], np.arange(103))
        assert file["x"].chunks == (chunk, 3, 5) and hdf5.faults(file, ["x", "n"]) == []
        assert hdf5.chunk_fault(file["x"]) is None
    assert (tmp_path / "a.h5").read_bytes() == write(tmp_path / "b.h5", chunk=chunk).read_bytes()


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


def test_room_that_goes_away_in_the_middle(tmp_path):
    def attempt():
        with hdf5.create(tmp_path / "x.h5", {"x": ((100, 1000), "u1", 10)}) as (_, fields):
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
            fields["x"].append(np.ones((100, 1000), np.uint8))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises((OSError, RuntimeError)) as caught:
            attempt()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os_error_text(caught.value) == "File too large"
    assert hdf5.broken_seal(tmp_path / "x.h5").startswith("is damaged")


def test_no_room_is_known_before_anything_is_written(tmp_path):
    with pytest.raises(OSError) as caught, hdf5.create(tmp_path / "x.h5", {"x": ((10**12, 1000), "u1", 10**6)}):  # noqa: PT011
        pass
    assert os_error_text(caught.value) in ("No space left on device", "File too large")


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(28, "x"), "No space left on device"), (RuntimeError("write failed: errno = 28, error"), "No space left on device"),
     (RuntimeError("I/O error: File too large (os error 27)"), "File too large"), (RuntimeError("mat1 and mat2"), None),
     (RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos"), "cannot be written"), (OSError("x"), None)],
)  # fmt: skip
def test_what_the_system_said(error, told):
    assert os_error_text(error) == told
