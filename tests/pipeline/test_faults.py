"""Disks that are full, folders that are read-only, files that were damaged: one line, nothing half made, and a rerun mends it."""

import contextlib
import os
import resource
import shutil
from pathlib import Path

import pytest

from dfkd_steps import pipeline

from . import steps
from .steps import PATHS, make, visible

FOLLOWING = list(pipeline.STEPS)


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


@pytest.mark.parametrize("step", pipeline.STEPS)
def test_no_room(sound, step):
    size = Path(PATHS[step]).stat().st_size
    left = without(sound, step)
    for room in (0, 100, size // 2, size - 1):
        with files_no_larger_than(room):
            code, lines = make(step)
        assert code == 2 and len(lines) == 1, (step, room, lines)
        assert "make room" in lines[0] and "results/" in lines[0], lines
        assert PATHS[step] not in visible() and left.items() <= visible().items()
    assert make(step) == (0, [])
    assert visible() == sound
