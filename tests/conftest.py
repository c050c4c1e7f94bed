"""What all tests share."""

import gc
import os
from pathlib import Path

import pytest

# One thread each: tests run side by side (pytest -n), and bytes depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# What is imported for 4,000 tests is no garbage, and looking for some in it took a tenth of the suite's time.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


# Files that take minutes, the longest first: begun last, one of them would keep one process busy and leave the others idle.
LONG = (
    "test_slurm", "test_crash", "test_drivers", "test_shards", "test_sharing", "test_faults", "test_reruns", "test_pretend_gpu",
    "test_resume",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """The long files before the others."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository that is tested."""
    return Path(__file__).parents[1]
