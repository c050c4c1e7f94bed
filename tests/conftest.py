"""What all tests share."""

import os
from pathlib import Path

import pytest

# One thread each: tests run side by side (pytest -n), and bytes depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository that is tested."""
    return Path(__file__).parents[1]
