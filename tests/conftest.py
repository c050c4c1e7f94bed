"""What all tests share."""

import os
from pathlib import Path

import pytest

# One thread each: tests run side by side (pytest -n), and bytes depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """One process for all that runs the drivers: their runs are made once, and shared."""
    for item in items:
        if "pipeline" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("pipeline"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository that is tested."""
    return Path(__file__).parents[1]
