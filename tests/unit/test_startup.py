"""What a step says where memory is too small for it to start: a line and code 2, no traceback of an import."""

import subprocess
import sys

import pytest

from dfkd_steps.runtime import limits, memory, startup

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's bound")


def run(program: str, limit: str = "unlimited"):
    """Python with arguments in a shell's limit of addresses, kB."""
    return subprocess.run(["sh", "-c", f"ulimit -v {limit}; exec {sys.executable} {program}"], capture_output=True, text=True)


def test_addresses_that_do_not_suffice_for_pytorch():
    done = run("-m dfkd_steps.distill results/a/b/c/d/e/student.safetensors", "1200000")
    warning, error = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert warning.startswith("distill: ulimit -v allows 1,171 MiB of addresses, of which PyTorch reserves up to 6,144 MiB")
    assert error.startswith("error: results/a/b/c/d/e/student.safetensors: memory ran out (") and "`ulimit -v` (now 1.14" in error


def test_a_command_that_needs_no_pytorch_starts_with_few_addresses():
    done = run("-m dfkd_steps.cli --help", "1200000")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_an_import_raises_is_a_line():
    """As where a module was edited while Snakemake ran; a KeyboardInterrupt stays itself."""
    begin = "from dfkd_steps.runtime import startup; startup.prepare('distill', False)"
    done = run(f'-c "{begin}; raise MemoryError()" results/a/metrics.json')
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and done.stderr.startswith(
        "error: results/a/metrics.json: memory "
    )
    done = run(f'-c "{begin}; raise KeyboardInterrupt()"')
    assert done.returncode != 2 and "KeyboardInterrupt" in done.stderr and "error:" not in done.stderr


def test_memory_that_does_not_suffice_for_pytorch(monkeypatch, capsys):
    """The system would kill the step while it is imported, and its log would be empty."""
    for target, name in ((startup.gc, "disable"), (startup.sys, "excepthook")):
        monkeypatch.setattr(target, name, getattr(target, name))  # put back afterwards
    monkeypatch.setattr(startup.gc, "disable", lambda: None)
    monkeypatch.setattr(limits, "addresses", lambda: 1 << 50)
    for left in (1 << 30, 250 << 20):
        monkeypatch.setattr(memory, "here", lambda left=left: left)
        startup.prepare("report", computes=False)
        if left == 1 << 30:
            startup.prepare("distill", computes=True)
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit) as ended:
        startup.prepare("distill", computes=True)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert said.startswith("error: distill: 250 MiB of memory are left here, but PyTorch takes 300 MiB to start; give the cont")
