"""What unit tests share."""

import shutil

import pytest

from dfkd_steps.reporting import first_try


@pytest.fixture
def for_new(tmp_path, repository, monkeypatch):
    """A working directory for `dfkd new`: the transfer and balance presets of the project, nothing else; one step is timed."""
    monkeypatch.setattr(first_try, "TIMED_STEPS", 1)
    (tmp_path / "params").mkdir()
    for group in ("transfer", "balance"):
        shutil.copytree(repository / "params" / group, tmp_path / "params" / group)
    monkeypatch.chdir(tmp_path)
    return tmp_path
