"""Disks that are full, folders that are read-only, files that were damaged: one line, nothing half made, and a rerun mends it."""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dfkd_steps.pipeline import graph

from . import steps
from .conftest import DATASET
from .steps import PATHS, make, visible


@pytest.fixture(scope="module")
def chain(repository, tmp_path_factory):
    """The folder of a sound chain, and the sha256 of its files."""
    folder, before = tmp_path_factory.mktemp("chain"), os.getcwd()
    os.chdir(folder)
    os.environ["DFKD_DEVICE"] = "cpu"
    try:
        steps.make_chain(folder, repository)
        return folder, visible()
    finally:
        os.chdir(before)


@pytest.fixture
def sound(chain, tmp_path, monkeypatch):
    """A copy of the sound chain as the working folder; returns the sha256 of its files."""
    folder, made = chain
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DFKD_DEVICE", "cpu")
    return made


def without(made, step):
    """What is left of the files where those of a step are taken away."""
    gone = {PATHS[step]} | ({str(Path(PATHS[step]).with_name("history.csv"))} if step in ("teacher", "distill") else set())
    for path in gone:
        Path(path).unlink(missing_ok=True)
    return {path: digest for path, digest in made.items() if path not in gone}


# ------------------------------------------------------------------------------------------------- no room, no leave
@contextlib.contextmanager
def files_no_larger_than(size):
    """What a full disk does to a process: a write fails in the middle (EFBIG instead of ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("step", graph.STEPS)
def test_no_room(sound, step):
    size = Path(PATHS[step]).stat().st_size
    left = without(sound, step)
    for room in (0, 100, size // 2, size - 1):
        with files_no_larger_than(room):
            code, lines = make(step)
        assert code == 2 and len(lines) == 1, (step, room, lines)
        assert "free disk space" in lines[0] and "results/" in lines[0], lines
        assert PATHS[step] not in visible() and left.items() <= visible().items()
    assert make(step) == (0, [])
    assert visible() == sound


@contextlib.contextmanager
def nobody():
    """Root may write anywhere; these lines run as somebody who may not."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("step", graph.STEPS)
def test_read_only_results(sound, step):
    left = without(sound, step)
    folders = [Path("results"), *(path for path in Path("results").rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    Path().chmod(0o755)  # pytest's own folders are closed to others
    with nobody():
        code, lines = make(step)
    assert code == 2 and len(lines) == 1
    assert "results/" in lines[0] and "Permission denied; free disk space or correct the permissions" in lines[0]
    assert visible() == left
    for folder in folders:
        folder.chmod(0o755)
    assert make(step) == (0, [])
    assert visible() == sound


# ------------------------------------------------------------------------------------------------- damaged inputs
READS = {"teacher": "dataset", "synthesize": "teacher", "balance": "synthesize", "distill": "balance", "evaluate": "distill"}


def damages(raw: bytes):
    """Copies of a file with one fault each: cut off, longer, or one bit changed, in its structures and in its data."""
    rng = random.Random(0)
    for length in (0, 1, 8, 100, len(raw) // 3, len(raw) - 20, len(raw) - 1):
        yield f"cut off at {length}", raw[:length]
    yield "longer", raw + b"\0"
    places = [*range(0, 96, 7), *(rng.randrange(len(raw)) for _ in range(12)), *(len(raw) - 1 - back for back in range(0, 30, 6))]
    for place in places:
        changed = bytearray(raw)
        changed[place] ^= 1 << rng.randrange(8)
        yield f"bit changed at {place}", bytes(changed)


@pytest.mark.parametrize("step", READS)
def test_damaged_inputs(sound, step):
    damaged = Path(PATHS[READS[step]])
    left, raw = without(sound, step), damaged.read_bytes()
    for what, content in damages(raw):
        damaged.write_bytes(content)
        code, lines = make(step)
        assert code == 2 and len(lines) == 1, (what, lines)
        assert lines[0].startswith(f"error: {damaged}: ") and "make it again" in lines[0], (what, lines)
        assert visible().keys() == left.keys()
    # What the line says: delete it and make it again.
    without(sound, READS[step])
    assert make(READS[step]) == make(step) == (0, [])
    assert visible() == sound


@pytest.mark.parametrize("step", ["synthesize", "distill"])
def test_damaged_working_files(sound, step):
    """What a crash of the machine leaves in the hidden files is not taken for work done."""
    out = Path(PATHS[step])
    rng = random.Random(1)
    for content in (b"", bytes(5000), rng.randbytes(5000), out.read_bytes()[:4000]):
        without(sound, step)
        for ending in ("partial", "partial.done", "whole", "partial.lock"):
            out.with_name(f".{out.name}.{ending}").write_bytes(content)
        assert make(step) == (0, [])
        assert visible() == sound
        assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


# ------------------------------------------------------------------------------------------------- two at once
def test_two_snakemakes_at_once_and_the_lock_of_a_killed_one(fresh, tmp_path):
    copy, target = fresh.again(tmp_path / "copy"), f"{DATASET}/dataset.h5"
    command = ("snakemake", "--cores", "1", target)
    first = subprocess.Popen(
        command, cwd=copy.folder, env=copy.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    while not any((copy.folder / ".snakemake/locks").glob("*")):
        assert first.poll() is None
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGSTOP)  # it is at work for as long as we look
    said = copy.snakemake("--cores", "1", target, fails=True)
    assert "Directory cannot be locked" in said and "--unlock" in said and "Traceback" not in said
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert "Directory cannot be locked" in copy.snakemake("--cores", "1", target, fails=True)
    copy.snakemake("--unlock")
    copy.snakemake("--cores", "1", target)
    assert set(copy.made()) == {target} and copy.audit() == set()
