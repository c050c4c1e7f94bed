"""Rows of a field in any order are those that h5py gives, whatever the file's form."""

import h5py
import numpy as np
import pytest
import small_set
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfkd_steps.runtime.errors import UserError
from dfkd_steps.storage import rows
from dfkd_steps.storage.rows import Rows
from dfkd_steps.storage.transfer_set import Layout, TransferSet, Writer

SHAPES = {"images": (3, 5, 5), "labels": (), "logits": (7,)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A file with 103 rows a field, in chunks of 10: the last is not full."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("rows") / "x.h5"
    with h5py.File(path, "w") as file:
        for name, shape in SHAPES.items():
            values = rng.integers(0, 2**31, (103, *shape)).astype(
                "f4" if name == "logits" else "i8" if name == "labels" else "u1"
            )
            file.create_dataset(name, data=values, chunks=(10, *shape))
    with h5py.File(path, "r") as opened:
        yield opened


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(SHAPES)), st.lists(st.integers(0, 102), max_size=150), st.sampled_from([0, 100, 4096]))
def test_any_rows(plain, name, wanted, gap):
    before, rows.GAP = rows.GAP, gap
    reader = Rows(plain[name])
    found = reader(np.array(wanted, int))
    rows.GAP = before
    assert reader.places is not None
    assert found.dtype == plain[name].dtype
    np.testing.assert_array_equal(found, plain[name][:][np.array(wanted, int)])


def test_rows_of_a_written_set(tmp_path):
    layout = Layout((1, 4, 4), 3, 8)
    writer = Writer(tmp_path / "p", "k", layout)
    for index, size in enumerate((8, 3, 8, 8, 6)):  # batches that are no chunks
        writer.append(**small_set.batch(index, size))
    writer.finish(tmp_path / "x.h5", {}, {})
    wanted = np.random.default_rng(1).integers(0, 33, 200)
    with TransferSet(tmp_path / "x.h5") as opened:
        for name, _, _ in layout.fields():
            for given_as in (wanted, wanted.astype(np.int32), wanted.tolist()):
                np.testing.assert_array_equal(opened.gather(name, given_as), opened.file[name][:][wanted])
            assert opened.rows[name].places is not None


FOREIGN = {
    "compressed": {"compression": "gzip"},
    "shuffled": {"shuffle": True},
    "with checksums": {"fletcher32": True},
    "in split samples": {"chunks": (10, 2)},
    "in one piece": {"chunks": None},
    "big-endian": {"dtype": ">i4"},
}


@pytest.mark.parametrize("form", FOREIGN)
def test_foreign_forms_are_read_through_h5py(tmp_path, form):
    values = np.arange(150, dtype="i4").reshape(50, 3)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values, **{"chunks": (10, 3), **FOREIGN[form]})
    with h5py.File(tmp_path / "x.h5", "r") as file:
        reader = Rows(file["x"])
        assert reader.places is None
        np.testing.assert_array_equal(reader([49, 3, 3, 0]), values[[49, 3, 3, 0]])


@pytest.mark.parametrize("how", ["a hole", "a user block"])
def test_holes_and_user_blocks(tmp_path, how):
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512 if how == "a user block" else 0) as file:
        made = file.create_dataset("x", (40, 2), "i4", chunks=(10, 2), fillvalue=7)
        made[:10], made[30:] = 1, 4
        if how == "a user block":
            made[10:30] = 7
    with h5py.File(tmp_path / "x.h5", "r") as file:
        assert Rows(file["x"])([35, 12, 3]).tolist() == [[4, 4], [7, 7], [1, 1]]


def test_what_are_no_rows(plain):
    reader = Rows(plain["labels"])
    assert reader([]).shape == (0,)
    for wrong, told in ((103, IndexError), (-1, IndexError), (0.5, TypeError)):
        with pytest.raises(told):
            reader(np.array([1, wrong]))
    with pytest.raises(TypeError):
        reader(np.ones(103, bool))


def test_a_file_cut_off_while_it_is_open(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=np.zeros((1000, 100)), chunks=(10, 100))
    with h5py.File(tmp_path / "x.h5", "r") as file:
        reader = Rows(file["x"])
        with open(tmp_path / "x.h5", "r+b") as raw:
            raw.truncate(300_000)
        assert (reader([5]) == 0).all()
        with pytest.raises(UserError, match=r"x.h5: ends inside the field x; delete it and make it again"):
            reader([5, 999])
