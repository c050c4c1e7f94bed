"""What a process is set to: memory that stays."""

import ctypes
import subprocess
import sys

import pytest

from dfkd_steps import runtime

# MB that the process holds after ten tensors of 8 MB were made and let go.
HELD = """
import sys, torch
from dfkd_steps import runtime
if sys.argv[1] == "kept":
    runtime.keep_memory()
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 10**6
before = held()
tensors = [torch.ones(2_000_000) for _ in range(10)]
del tensors
print(held() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_memory_stays_with_the_process():
    usual, kept = (
        int(subprocess.run([sys.executable, "-c", HELD, how], capture_output=True, text=True, check=True).stdout)
        for how in ("usual", "kept")
    )
    assert usual < 20 and kept >= 80


def test_without_glibc_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    runtime.keep_memory()
