"""The type checker (basic) finds nothing in pipeline/, storage/, schemas/ and methods/base.py."""

import json
import subprocess
import sys

import pytest


def test_pyright(repository):
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not start here (without a network it needs pyright[nodejs]): {done.stderr.strip()[-200:]}")
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] > 15
    assert [f"{one['file']}:{one['range']['start']['line'] + 1}: {one['message']}" for one in found["generalDiagnostics"]] == []
