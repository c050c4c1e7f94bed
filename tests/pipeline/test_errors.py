"""Bad input: both drivers show the one line that says what to mend, and no file appears."""

import pytest

from .conftest import TEACHER, at_once

BAD = {
    # what stands in params/experiment.yaml, and instead of what; the lines that are shown
    "specs": (
        {
            "zskd+batch=20+n=40": "zsdk+n=40+batch=20+steps=5, zskd+stepz=4, zskd+batch=20+n=40",
            "epochs=1]\ntransfer": "epochs=0]\ntransfer",
        },
        [
            "transfer: 'zsdk+n=40+batch=20+steps=5' has its overrides out of order; write 'zsdk+batch=20+n=40+steps=5'",
            "transfer 'zskd+stepz=4': stepz: unknown key; did you mean steps?",
            "teacher 'lenet5+epochs=0': epochs: '0' is below 1",
        ],
    ),
    "source": ({"source: [mnist-5k]": "source: []"}, ["reads mnist-5k, which is in no list; add 'mnist-5k' to source"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sweep(name, fresh, tmp_path):
    changes, lines = BAD[name]
    copy = fresh.again(tmp_path / "copy")
    for old, new in changes.items():
        copy.edit("params/experiment.yaml", old, new)
    for said in at_once(lambda: copy.snakemake("-n", fails=True), lambda: copy.dvc("repro", fails=True)):
        assert all(line in said for line in lines), said
        assert "Traceback" not in said
    assert not copy.made()


def test_bad_path(fresh):
    assert "no file params/balance/equals.yaml; did you mean equal?" in fresh.snakemake(
        "-n", "results/mnist-5k/lenet5/noise/equals/transfer_set.h5", fails=True
    )


def test_line_of_a_step_that_fails(by_dvc, tmp_path):
    """A step finds out what no config can tell: here, more samples than the data set has."""
    copy = by_dvc.again(tmp_path / "copy")
    made = copy.made()
    path = f"{TEACHER}/dataset+n=90000+source=mnist-5k/transfer_set.h5"
    said = copy.snakemake(path, fails=True)
    assert "error: transfer: n: 90000 is more than the 4000 training images" in said
    assert "Traceback" not in said
    assert copy.made() == made
