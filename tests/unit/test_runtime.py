"""What a process is set to: memory that stays, the device, threads."""

import ctypes
import subprocess
import sys

import pytest

from dfkd_steps import runtime

# How often 16 MB are taken from the system while as much is written and freed 20 times.
FAULTS = """
import resource, sys, torch
from dfkd_steps import runtime
if sys.argv[1] == "kept":
    runtime.keep_memory()
torch.set_num_threads(1)
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(4_000_000)
before = pages()
for _ in range(20):
    torch.ones(4_000_000)
print(pages() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_memory_stays_with_the_process():
    usual, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("usual", "kept")
    )
    assert 3 * kept < usual  # pieces of the heap have to fit first, with their alignment


def test_without_glibc_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    runtime.keep_memory()
