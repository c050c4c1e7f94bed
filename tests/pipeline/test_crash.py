"""A sweep whose processes are killed at random moments ends with the bytes of an undisturbed one."""

from .crash import disturb


def test_kills_at_random_moments(fresh, by_snakemake, tmp_path):
    copy = fresh.again(tmp_path / "copy")
    assert disturb(copy, by_snakemake.made(), kills=3, seed=0, cores=2).total() == 3
