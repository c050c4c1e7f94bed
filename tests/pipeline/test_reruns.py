"""What runs again after an edit, under both drivers: exactly what depends on it. Dry runs over finished results."""

import pytest

from .conftest import ALL

FOLLOWING = ("synthesize", "balance", "distill", "evaluate", "report")


def later(first: str) -> dict[str, int]:
    """All jobs of a step and of those that follow it."""
    return {rule: ALL[rule] for rule in FOLLOWING[FOLLOWING.index(first) :]}


ONE = dict.fromkeys(FOLLOWING, 1)
DATA = {"dataset", "source", "synthesize"}  # the baseline has the key of its source in its resolved config
HEADER = '"""'

EDITS = {
    # name: file, old, new; jobs of Snakemake; steps that DVC calls changed before anything ran
    "a comment in YAML": ("params/transfer/zskd.yaml", "method:", "# said again\nmethod:", {}, set()),
    "a docstring in code": ("dfkd_steps/distill.py", HEADER, f"# A comment.\n{HEADER}More. ", {}, set()),
    "a value that a spec overrides": ("params/transfer/zskd.yaml", "method:", "n: 7\nmethod:", {}, set()),
    "a value of one method": ("params/transfer/zskd.yaml", "method:", "seed: 7\nmethod:", ONE, {"synthesize"}),
    "a value of the data set": ("params/dataset/mnist-5k.yaml", "source:", "seed: 7\nsource:", ALL, DATA),
    "a value of the student": (
        "params/student/lenet5-half.yaml", "arch:", "clip: 0.5\narch:", later("distill"), {"distill"}
    ),
    "code of one method": ("dfkd_steps/methods/zskd.py", "\nclass Method", "\nUNUSED = 1\n\n\nclass Method", ONE, {"synthesize"}),
    "code of a step": ("dfkd_steps/balance.py", "\ndef run", "\nUNUSED = 1\n\n\ndef run", later("balance"), {"balance"}),
    "code of the report": ("dfkd_steps/report.py", "\ndef main", "\nUNUSED = 1\n\n\ndef main", {"report": 1}, {"report"}),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_edit(name, by_snakemake, tmp_path):
    file, old, new, jobs, stages = EDITS[name]
    copy = by_snakemake.again(tmp_path / "copy")
    copy.edit(file, old, new)
    assert copy.jobs() == jobs
    # The report's folder holds what `resolve` writes, too; DVC finds out when it runs it that nothing of it changed.
    assert {stage.split("@")[0] for stage in copy.changed()} - {"report"} == stages - {"report"}


def test_without_records_of_snakemake(by_dvc, tmp_path):
    """A fresh clone with pulled results: Snakemake has no records of params or code, and still sees a changed value."""
    copy = by_dvc.again(tmp_path / "copy")
    copy.edit("params/balance/equal.yaml", "mode:", "seed: 7\nmode:")
    assert copy.jobs() == later("balance")
