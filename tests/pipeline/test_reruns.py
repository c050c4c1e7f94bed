"""What runs again after an edit, under both drivers: exactly what depends on it. Dry runs over finished results."""

import numpy as np
import pytest

from .conftest import ALL, Copy, at_once

FOLLOWING = ("synthesize", "balance", "distill", "evaluate", "report")


def later(first: str) -> dict[str, int]:
    """All jobs of a step and of those that follow it."""
    return {rule: ALL[rule] for rule in FOLLOWING[FOLLOWING.index(first) :]}


ONE = dict.fromkeys(FOLLOWING, 1)
DATA = {"dataset", "source", "synthesize"}  # the baseline has the key of its source in its resolved config
HEADER = '"""'

EDITS = {
    # name: edits (file, old, new); jobs of Snakemake; steps that DVC calls changed before anything ran
    "nothing that counts": (
        [
            ("params/transfer/zskd/zskd.yaml", "method:", "# A comment, and a value that the spec overrides.\nn: 7\nmethod:"),
            ("dfkd_steps/distill.py", HEADER, f"# A comment.\n{HEADER}A docstring. "),
        ],
        {},
        set(),
    ),
    "a value of one method": ([("params/transfer/zskd/zskd.yaml", "method:", "seed: 7\nmethod:")], ONE, {"synthesize"}),
    "code of one method": (
        [("dfkd_steps/methods/zskd.py", "\nclass ZSKD(", "\nADDED = 1\n\n\nclass ZSKD(")],
        ONE,
        {"synthesize"},
    ),
    "code of a step": ([("dfkd_steps/balance.py", "\ndef run", "\nADDED = 1\n\n\ndef run")], later("balance"), {"balance"}),
    "a value of the data": ([("params/dataset/mnist-5k.yaml", "source:", "seed: 7\nsource:")], ALL, DATA),
}


@pytest.mark.parametrize("name", EDITS)
def test_edit(name, by_snakemake, tmp_path):
    edits, jobs, stages = EDITS[name]
    copy = by_snakemake.again(tmp_path / "copy")
    for edit in edits:
        copy.edit(*edit)
    found, changed = at_once(copy.jobs, copy.changed)
    assert found == jobs
    # The report depends on the folder with what `resolve` writes; that nothing of it counted, DVC sees when it is made.
    assert {stage.split("@")[0] for stage in changed} - {"report"} == stages


def test_without_records_of_snakemake(by_dvc, tmp_path):
    """A fresh clone with pulled results: Snakemake has no records of params or code, and still sees a changed value."""
    copy = by_dvc.again(tmp_path / "copy")
    copy.edit("params/student/lenet5-half.yaml", "arch:", "clip: 0.5\narch:")
    copy.edit("dfkd_steps/report.py", "\ndef main", "\nADDED = 1\n\n\ndef main")
    assert copy.jobs() == later("distill")


OF_A_FILE = """
dataset: [of-file]
teacher: [lenet5+epochs=1]
transfer: [noise+batch=50+n=100]
balance: [none]
student: [lenet5-half+epochs=1]
source: []
export: []
"""


def test_a_file_that_is_gone(repository, tmp_path):
    """What was made from it stays current; what would be made from it again is not deleted first, by either driver."""
    copy, path = Copy.of_repository(repository, tmp_path / "copy", OF_A_FILE), "results/of-file/dataset.h5"
    images, labels = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8), np.arange(40) % 10
    np.savez(copy.folder / "digits.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    settings = copy.folder / "params/dataset/of-file.yaml"
    settings.write_text("source: npz\npath: digits.npz\n")
    copy.snakemake("--cores", "1", path)
    made = copy.made()
    (copy.folder / "digits.npz").rename(copy.folder / "digits.away")
    assert copy.jobs(path) == {}
    settings.write_text("source: npz\npath: digits.npz\ntrain: 30\n")
    told = at_once(lambda: copy.snakemake("--cores", "1", path, fails=True), lambda: copy.dvc("repro", fails=True))
    for said in told:
        assert f"digits.npz: does not exist, but {path} is to be made from it; put it back" in said
    assert path in copy.made() and copy.made() == made
