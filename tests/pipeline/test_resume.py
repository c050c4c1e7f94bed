"""kill -9 in the middle of a step, then the same command again: it resumes, and the bytes are those of an undisturbed run."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from .conftest import TEACHER, ZSKD

SET = f"{TEACHER}/zskd+batch=50+n=600+steps=30/transfer_set.h5"
STUDENT = f"{ZSKD}/equal/lenet5-half+epochs=15+steps_per_epoch=9/student.safetensors"


@pytest.fixture(scope="module")
def copy(by_snakemake, tmp_path_factory):
    return by_snakemake.again(tmp_path_factory.mktemp("resume") / "copy")


def start(copy, *command):
    environment = {**os.environ, "PYTHONPATH": "", "DFKD_THREADS": "1", "DFKD_DEVICE": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=copy.folder,
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kill_when(process, ready):
    """kill -9 as soon as ``ready()``; the process must still be at work."""
    limit = time.monotonic() + 60
    while not ready():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def samples(partial) -> int:
    """So many the counter beside a working file tells of."""
    counter = partial.with_name(f"{partial.name}.done")
    return json.loads(counter.read_text())["done"][1] if counter.exists() else 0


def test_synthesis_resumes(copy):
    command = ("dfkd_steps.synthesize", SET, f"{TEACHER}/teacher.safetensors")
    out = copy.folder / SET
    partial = out.with_name(".transfer_set.h5.partial")
    kill_when(start(copy, *command), lambda: samples(partial) > 100)
    assert partial.exists() and not out.exists()
    second = start(copy, *command)
    said = second.communicate()[1]
    assert second.returncode == 0, said
    resumed = int(re.search(r"resumes from sample (\d+) of 600", said)[1])
    assert resumed >= 100 and resumed % 50 == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    disturbed = digest(out)
    out.unlink()
    third = start(copy, *command)
    said = third.communicate()[1]
    assert third.returncode == 0 and "resumes" not in said
    assert digest(out) == disturbed


def test_a_copy_that_waited_finds_the_file_made(copy):
    command = ("dfkd_steps.synthesize", SET.replace("n=600", "n=300"), f"{TEACHER}/teacher.safetensors")
    both = [start(copy, *command) for _ in range(2)]
    said = [one.communicate()[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert sum("300 samples" in one for one in said) == 1, "the work was done twice, or never"


def test_a_partial_file_of_another_config_is_not_used(copy):
    teacher = f"{TEACHER}/teacher.safetensors"
    out = copy.folder / SET.replace("n=600", "n=500")
    partial = out.with_name(".transfer_set.h5.partial")
    kill_when(
        start(copy, "dfkd_steps.synthesize", str(out.relative_to(copy.folder)), teacher),
        lambda: samples(partial) > 100,
    )
    copy.edit("params/transfer/zskd/zskd.yaml", "method: zskd", "method: zskd\nlr: 0.01")
    again = start(copy, "dfkd_steps.synthesize", str(out.relative_to(copy.folder)), teacher)
    said = again.communicate()[1]
    copy.edit("params/transfer/zskd/zskd.yaml", "\nlr: 0.01", "")
    assert again.returncode == 0 and "resumes" not in said, said


def test_training_resumes(copy):
    folder = (copy.folder / STUDENT).parent
    code = (
        "from dfkd_steps import distill; from dfkd_steps.pipeline.job import run_step; "
        "from dfkd_steps.storage import checkpoint; checkpoint.EVERY = 0; run_step('distill', distill.run)"
    )
    environment = {**os.environ, "PYTHONPATH": str(copy.folder), "DFKD_THREADS": "1", "DFKD_DEVICE": "cpu"}
    inputs = [f"{TEACHER}/teacher.safetensors", f"{ZSKD}/equal/transfer_set.h5"]

    def run():
        command = [sys.executable, "-c", code, STUDENT, *inputs]
        return subprocess.Popen(
            command, cwd=copy.folder, env=environment, text=True, stderr=subprocess.PIPE, start_new_session=True
        )

    kill_when(run(), lambda: (folder / ".student.safetensors.partial").exists())
    second = run()
    said = second.communicate()[1]
    assert second.returncode == 0 and re.search(r"resumes after epoch \d+", said), said
    disturbed = digest(copy.folder / STUDENT), digest(folder / "history.csv")
    for name in ("student.safetensors", "history.csv"):
        (folder / name).unlink()
    third = run()
    said = third.communicate()[1]
    assert third.returncode == 0 and "resumes" not in said, said
    assert (digest(copy.folder / STUDENT), digest(folder / "history.csv")) == disturbed
