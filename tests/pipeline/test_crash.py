"""A sweep whose processes are killed at random moments ends with the bytes of an undisturbed one."""

from . import calls
from .conftest import ZSKD
from .crash import disturb


def test_stops_at_file_system_calls(repository, tmp_path, monkeypatch):
    """A sample of the places; ``python tests/pipeline/crash.py --calls`` takes them all, those of the slow export too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DFKD_DEVICE", "cpu")
    assert calls.sweep(tmp_path, repository, share=0.02, without=["export"]) >= 7


def test_kills_at_random_moments(by_snakemake, tmp_path):
    """What follows the teacher, for one of two runs; ``python tests/pipeline/crash.py 50`` kills whole sweeps."""
    copy = by_snakemake.again(tmp_path / "copy")
    copy.run("rm", "-r", ZSKD, "report")
    assert disturb(copy, by_snakemake.made(), kills=1, seed=0, cores=2).total() == 1
