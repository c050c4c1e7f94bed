"""N jobs make one transfer set: the same bytes as one job, for batches and for members of an ensemble."""

import re

import pytest

from dfkd_steps.storage.transfer_set import TransferSet

from .conftest import TEACHER

PLAIN = f"{TEACHER}/noise+batch=50+n=230/transfer_set.h5"
MEMBERS = f"{TEACHER}/ensemble/transfer_set.h5"
INDIVISIBLE = f"{TEACHER}/alternating/transfer_set.h5"
# Two generators of which each is two rounds of work; and alternating training, whose rounds need one another.
ENSEMBLE = """
method: generative
bn: 0.0
moments: 1.0
n: 45
batch: 20
members: 2
rounds_each: 2
steps: 2
train_batch: 8
width: 4
"""
ALTERNATING = "method: dfad\nn: 20\nbatch: 20\nrounds: 2\nturns: 1\ntrain_batch: 8\nwidth: 4\nstudent: lenet5-half\n"


@pytest.fixture(scope="module")
def copies(by_snakemake, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    one, many = by_snakemake.again(folder / "one"), by_snakemake.again(folder / "many")
    for copy in (one, many):
        (copy.folder / "params/transfer/ensemble.yaml").write_text(ENSEMBLE)
        (copy.folder / "params/transfer/alternating.yaml").write_text(ALTERNATING)
    for out in (PLAIN, MEMBERS):
        one.run("python", "-m", "dfkd_steps.synthesize", out, f"{TEACHER}/teacher.safetensors")
    many.said = many.snakemake("--cores", "2", PLAIN, MEMBERS, "--config", "shards=3")
    return one, many


def test_as_many_jobs_as_there_are_parts(copies):
    jobs = re.findall(r"shard (\d) of (\d): (\S+)", copies[1].said)
    assert {(of, name.split("+")[0]) for _, of, name in jobs} == {("3", "noise"), ("2", "ensemble")}
    assert len(set(jobs)) == 5


def test_same_bytes_and_no_shard_left(copies):
    one, many = (copy.made() for copy in copies)
    assert {PLAIN, MEMBERS} <= set(one)
    assert one == many
    with TransferSet(copies[1].folder / MEMBERS) as joined:
        assert joined.metadata["history"]["round"] == [1, 2, 3, 4]  # two of each of the two shards


def test_nothing_is_done_again(copies):
    assert copies[1].jobs(PLAIN, MEMBERS, "--config", "shards=3") == {}
    assert copies[1].jobs(PLAIN, MEMBERS) == {}


def test_one_job_for_what_cannot_be_divided(copies):
    assert copies[1].jobs(INDIVISIBLE, "--config", "shards=3") == {"synthesize": 1}


def test_bad_numbers_are_one_line(copies):
    for number, of, wanted in (("3", "3", "NUMBER from 0 to OF - 1"), ("1", "9", "9 shards are more than its 5 parts")):
        said = copies[0].run(
            "python",
            "-m",
            "dfkd_steps.shard",
            PLAIN.replace("n=230", "n=250"),
            number,
            of,
            f"{TEACHER}/teacher.safetensors",
            fails=True,
        )
        assert wanted in said and len(said.strip().splitlines()) == 1


def test_a_shard_of_other_settings_is_made_again(copies):
    """Else the whole set would be made by one job, though the others made their parts."""
    copy, settings = copies[0], copies[0].folder / "params/transfer/parts.yaml"
    settings.write_text("method: noise\nn: 100\nbatch: 50\n")
    out = f"{TEACHER}/parts/transfer_set.h5"
    copy.run("python", "-m", "dfkd_steps.shard", out, "0", "2", f"{TEACHER}/teacher.safetensors")
    assert copy.jobs(out, "--config", "shards=2") == {"shard": 1, "synthesize": 1}
    settings.write_text("method: noise\nn: 100\nbatch: 50\nkind: gaussian\n")
    assert copy.jobs(out, "--config", "shards=2") == {"shard": 2, "synthesize": 1}
    said = copy.run("python", "-m", "dfkd_steps.synthesize", out, f"{TEACHER}/teacher.safetensors")
    assert "1 shards exist that do not make up the current set" in said


def test_a_damaged_shard_is_one_line(copies):
    """The set that is put together has a checksum of its own, which would vouch for what was damaged before."""
    copy, out = copies[0], f"{TEACHER}/noise+batch=50+n=120/transfer_set.h5"
    for number in "01":
        copy.run("python", "-m", "dfkd_steps.shard", out, number, "2", f"{TEACHER}/teacher.safetensors")
    shard = copy.folder / TEACHER / "noise+batch=50+n=120/.shards/0-of-2.h5"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    said = copy.run("python", "-m", "dfkd_steps.synthesize", out, f"{TEACHER}/teacher.safetensors", fails=True)
    assert ".shards/0-of-2.h5: is damaged" in said and len(said.strip().splitlines()) == 1
    assert not (copy.folder / out).exists()
