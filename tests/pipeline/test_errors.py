"""Bad input: both drivers show the one line that says what to mend, and no file appears."""

import pytest

from .conftest import SWEEP

BAD = {
    # what stands in params/experiment.yaml instead of what; what the line says
    "name": ("zskd+", "zsdk+", "transfer: no file params/transfer/zsdk.yaml"),
    "key": ("steps=5", "stepz=5", "stepz: unknown key"),
    "range": ("epochs=1/", "epochs=0/", "epochs: '0' is below 1"),
    "order": ("batch=20+n=40", "n=40+batch=20", "write 'zskd+batch=20+n=40+steps=5'"),
    "source": ("source: [mnist-5k]", "source: []", "add 'mnist-5k' to source"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sweep(name, fresh, tmp_path):
    old, new, line = BAD[name]
    old, new = old.replace("/", "]"), new.replace("/", "]")
    assert old in SWEEP
    copy = fresh.again(tmp_path / "copy")
    (copy.folder / "params/experiment.yaml").write_text(SWEEP.replace(old, new))
    for said in (copy.snakemake("-n", fails=True), copy.dvc("repro", fails=True)):
        assert line in said
        assert "Traceback" not in said
    assert not [path for path in copy.made() if not path.startswith("results/_resolved")]


def test_config_of_another_shape(fresh):
    assert "Additional properties are not allowed ('transfers' was unexpected)" in fresh.snakemake(
        "-n", "--config", "transfers=[a]", fails=True
    )


def test_bad_path(fresh):
    assert "no file params/balance/equals.yaml; did you mean equal?" in fresh.snakemake(
        "-n", "results/mnist-5k/lenet5/noise/equals/transfer_set.h5", fails=True
    )


def test_line_of_a_step_that_fails(by_dvc, tmp_path):
    """A step finds out what no config can tell: here, more samples than the data set has."""
    copy = by_dvc.again(tmp_path / "copy")
    made = copy.made()
    path = "results/mnist-5k+test=100+train=500/lenet5+epochs=1/dataset+n=90000+source=mnist-5k/transfer_set.h5"
    said = copy.snakemake(path, fails=True)
    assert "error: transfer: n: 90000 is more than the 4000 training images" in said
    assert "Traceback" not in said
    assert copy.made() == made
