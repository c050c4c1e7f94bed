"""The tests of on_pretend_gpu.py, in a process of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this release of torch has no devices written in Python",
)
def test_every_method_and_step_on_a_device_that_is_not_the_cpu(repository):
    file = Path(__file__).with_name("on_pretend_gpu.py")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 30 and " skipped" not in done.stdout
