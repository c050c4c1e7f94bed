"""What runs again after an edit, under both drivers: exactly what depends on it. Dry runs over finished results."""

import pytest

from .conftest import ALL, at_once

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
