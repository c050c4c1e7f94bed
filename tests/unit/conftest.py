"""What unit tests share."""

import pytest

from dfkd_steps.reporting import first_try


@pytest.fixture
def for_new(tmp_path, repository, monkeypatch):
    """A working directory for `dfkd new`: the transfer and balance presets of the project, nothing else; one step is timed."""
    monkeypatch.setattr(first_try, "TIMED_STEPS", 1)
    (tmp_path / "params").mkdir()
    for group in ("transfer", "balance"):
        (tmp_path / "params" / group).symlink_to(repository / "params" / group)
    monkeypatch.chdir(tmp_path)
    return tmp_path
