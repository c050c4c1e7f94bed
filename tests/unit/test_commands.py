"""Whatever a command raises ends it with a line and code 2; what nobody expected leaves its traceback in a file."""

import errno
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import small_set
import torch

from dfkd_steps.pipeline import estimate, job
from dfkd_steps.reporting import inspect
from dfkd_steps.runtime import commands, limits
from dfkd_steps.runtime.errors import UserError, reading, require_file
from dfkd_steps.storage import verify


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", "results/x/dataset.h5"])
    return tmp_path


def ended(capsys, error) -> list[str]:
    """The lines of a command that ends with an error; its code has to be 2."""

    def work():
        raise error

    assert commands.guarded("step", work) == 2
    out, said = capsys.readouterr()
    assert out == "" and "Traceback" not in said
    return said.splitlines()


def allocate():
    torch.empty(1 << 50)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a: 1\nb: 2"), "a: 1|b: 2"),
        (
            OSError(errno.ENOSPC, "x", "f"),
            "f: No space left on device; free disk space or correct the permissions, then run again",
        ),
        (OSError(errno.ENOENT, "x", "f"), "f: No such file or directory; correct the path"),
        (
            OSError(errno.ENOLCK, "x", "f"),
            "f: No locks available; use a file system that has locks (flock), or mount it with them",
        ),
        (OSError(errno.EIO, "x", "f"), "f: Input/output error; check the disk or its server, then run again"),
        (
            RuntimeError("write failed: errno = 28, y"),
            "results/x/dataset.h5: No space left on device; free disk space or correct",
        ),
        (RuntimeError("[enforce fail at inline_container.cc:671]"), "results/x/dataset.h5: cannot be written; free disk space"),
        (MemoryError(), "results/x/dataset.h5: memory ran out (MemoryError); use a smaller batch or fewer samples"),
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            "results/x/dataset.h5: memory ran out (CUDA out of memory.); use a smaller",
        ),
        (
            FloatingPointError("loss: not a finite number"),
            "results/x/dataset.h5: loss: not a finite number; train with a smaller",
        ),
    ],
)
def test_what_a_user_or_the_system_did(capsys, error, line):
    lines = ended(capsys, error)
    wanted = line.split("|")
    assert len(lines) == len(wanted)
    assert all(one.startswith(f"error: {start}") for one, start in zip(lines, wanted)), lines
    assert not Path("logs").exists()


def test_memory_that_torch_cannot_have(capsys, monkeypatch):
    with pytest.raises(RuntimeError) as caught:
        allocate()
    (line,) = ended(capsys, caught.value)
    assert ": memory ran out (4,294,967,296 MiB more were needed); use a smaller batch or fewer samples, set DFKD_MEMORY" in line
    monkeypatch.setenv("DFKD_MEMORY", "2")
    (line,) = ended(capsys, caught.value)
    assert "raise DFKD_MEMORY (now 2 GiB), or use a machine with more" in line


@pytest.mark.parametrize(
    ("out", "remedy"),
    [
        ("metrics.json", "; set DFKD_MEMORY"),
        ("export.json", "; set DFKD_MEMORY"),
        ("teacher.safetensors", "; use a smaller batch if it is trained here, set DFKD_MEMORY"),
        ("student.safetensors", "; use a smaller batch or fewer samples, set DFKD_MEMORY"),
    ],
)
def test_the_remedy_for_memory_is_one_that_the_step_has(capsys, monkeypatch, out, remedy):
    monkeypatch.setattr(sys, "argv", ["step", f"results/x/{out}"])
    (line,) = ended(capsys, MemoryError())
    assert f"{out}: memory ran out (MemoryError){remedy}" in line


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's bound")
def test_what_onednn_says_of_memory_that_ran_out(capsys, monkeypatch):
    """Fast at DFKD_MEMORY=1 ended with "a bug in dfkd"; far below the bound it would be one."""
    error = RuntimeError("could not create a primitive")
    held = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) << 10
    for soft, said in (
        (held + (500 << 20), "(a bug in dfkd"),
        (-1, "(a bug in dfkd"),
        (held + (20 << 20), "memory ran out (could"),
    ):
        monkeypatch.setattr(
            limits.resource, "getrlimit", lambda which, soft=soft: (soft if which == resource.RLIMIT_DATA else -1, -1)
        )
        (line,) = ended(capsys, error)
        assert said in line


def test_a_step_says_what_memory_it_took(capsys, monkeypatch):
    """The most that was held, not what is held in the end; a job is to be planned by it."""

    def run(_):
        held.append(limits.peak())
        torch.zeros(64 << 20)  # 256 MiB, and gone

    held = []
    monkeypatch.setattr(job, "parse_job", lambda step, uses_gpu: None)
    monkeypatch.setattr(job, "run_guarded", lambda name, work, uses_gpu: work())
    if (record := Path("/proc/self/clear_refs")).exists():
        record.write_text("5")  # other tests may have held more
    job.run_step("distill", run)
    assert held[0] + (200 << 20) < limits.peak() < held[0] + (300 << 20)
    assert capsys.readouterr().err == f"distill: peak memory {estimate.size(limits.peak())}\n"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 << 30)
    job.run_step("distill", lambda _: None)
    assert capsys.readouterr().err.endswith(", and 3 GiB of the GPU's\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel's other record has to do")
def test_the_peak_of_a_process_is_not_that_of_the_one_that_started_it():
    held = bytearray(600 << 20)
    code = "from dfkd_steps.runtime import limits; print(limits.peak())"
    peak = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 1 << 20 < peak < len(held) // 2


def test_a_limit_of_addresses(capsys, monkeypatch):
    """PyTorch cannot be loaded within it; without it the same words mean a file system that runs no programs."""
    error = ImportError("libtorch_cpu.so: failed to map segment from shared object")
    (line,) = ended(capsys, error)
    assert "(a bug in dfkd" in line
    monkeypatch.setattr(limits, "addresses", lambda: 3 << 29)
    (line,) = ended(capsys, error)
    assert "memory ran out (libtorch_cpu.so: failed" in line and "; raise or unset `ulimit -v` (now 1.5 GiB, of which" in line


def test_a_fault_of_this_program(capsys):
    (line,) = ended(capsys, IndexError("list index\nout of range"))
    told = re.fullmatch(
        r"error: step: IndexError: list index out of range \(a bug in dfkd; log: (logs/faults/step-\w+\.log)\)", line
    )
    log = Path(told[1]).read_text()
    assert log.startswith("Traceback") and "in work\n    raise error" in log


def test_where_no_log_can_be_written(capsys, monkeypatch):
    Path("logs").write_text("a file")
    monkeypatch.setattr(commands.tempfile, "gettempdir", lambda: "/proc")
    (line,) = ended(capsys, IndexError("x"))
    assert line == "error: step: IndexError: x (a bug in dfkd; log: none could be written)"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_stays_itself(error):
    def work():
        raise error

    with pytest.raises(error):
        commands.guarded("step", work)


def test_codes():
    assert [commands.guarded("x", lambda code=code: code) for code in (None, 0, 1)] == [0, 0, 1]


@pytest.mark.parametrize("module", ["dataset", "shard", "resolve", "report", "cli"])
def test_every_entry_is_guarded(module, repository, here):
    """The entry of each kind of command, with a fault in what it calls first."""
    first = {"dataset": "pipeline.graph.step_of", "shard": "runtime.device.setup_process", "resolve": "pipeline.sweep.read",
             "report": "reporting.runs.read", "cli": "reporting.spec_view.find_group"}[module]  # fmt: skip
    owner, _, name = f"dfkd_steps.{first}".rpartition(".")
    program = f"import runpy, sys, {owner} as owner\ndef broken(*a, **k): raise LookupError('broken')\nowner.{name} = broken\n"
    start = "from dfkd_steps import cli; sys.exit(cli.main())" if module == "cli" else (
        f"runpy.run_module('dfkd_steps.{module}', run_name='__main__', alter_sys=True)")  # fmt: skip
    given = {"cli": ["spec", "noise"], "report": ["report/index.html", "x"], "resolve": []}.get(module, ["results/x/dataset.h5"])
    environment = {**os.environ, "PYTHONPATH": str(repository), "DFKD_DEVICE": "cpu"}
    command = [sys.executable, "-c", program + start, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here, env=environment)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.fullmatch(r"error: \w+: LookupError: broken \(a bug in dfkd; log: logs/faults/\S+\)\n", done.stderr), done.stderr


# ------------------------------------------------------------------------------------------------- arguments
def test_arguments_from_a_file():
    Path("list").write_text("a\nb c\n@list\n")
    assert commands.expanded(["x", "@list", "-v"]) == ["x", "a", "b c", "@list", "-v"]


@pytest.mark.parametrize("kind", ["missing", "a pipe", "a folder", "no text"])
def test_arguments_from_what_is_no_list(kind):
    {"missing": lambda: None, "a pipe": lambda: os.mkfifo("list"), "a folder": lambda: os.mkdir("list"),
     "no text": lambda: Path("list").write_bytes(b"\xff\xfe")}[kind]()  # fmt: skip
    told = {"missing": "no such file", "no text": "is not text; give a file with one path per line"}.get(
        kind, "is not a regular file"
    )
    with pytest.raises(UserError, match=f"^list: {told}"):
        commands.expanded(["@list"])


# ------------------------------------------------------------------------------------------------- reading
NO_MEMORY = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EACCES, "x"), OSError("h5py: errno = 24, no more"), MemoryError(), RuntimeError(NO_MEMORY),
     RuntimeError("unable to mmap 309176 bytes from file <f>: Cannot allocate memory (12)")],
)  # fmt: skip
def test_what_the_system_lacks_does_not_make_a_file_damaged(error):
    with pytest.raises(UserError, match=r"^f: cannot be read \(.*\); correct that, the file may be intact$"), reading("f"):
        raise error


@pytest.mark.parametrize("error", [OSError("file signature not found"), ValueError("x\ny"), RecursionError(), IndexError()])
def test_what_a_broken_file_makes_readers_raise(error):
    with pytest.raises(UserError, match=r"^f: is damaged \(.*\); delete it and make it again$") as caught, reading("f"):
        raise error
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_pipes_and_folders_are_no_files(make):
    make("x")
    with pytest.raises(UserError, match=r"^x: is not a regular file"):
        require_file("x")


@pytest.mark.parametrize("look", [require_file, verify.verify, inspect.summary])
@pytest.mark.parametrize("name", ["x\nerror: y\x1b[2J.h5", "x\nerror: y"])
def test_a_name_with_a_line_in_it_is_one_line(look, name):
    with pytest.raises(UserError) as caught:
        look(name)
    assert str(caught.value).isprintable() and "x\\nerror: y" in str(caught.value)


def test_names_in_a_strangers_set_are_printable(tmp_path):
    writer = small_set.Writer(tmp_path / "x.h5", "k", small_set.LAYOUT, 8)
    writer.append(**small_set.batch(0))
    writer.finish({"step": "\x1b[2J"}, {"label": "=cmd\x1b[2J", "classes": ["a\x1b[2J", "b\nc", "d"]})
    assert all(line.isprintable() for line in inspect.summary(tmp_path / "x.h5"))


def test_what_a_terminal_would_obey_is_an_escape(capsys):
    """Names in a stranger's file are part of what readers say."""
    with pytest.raises(UserError) as caught, reading("f"):
        raise ValueError("\x1b[2J\u202e x")
    assert str(caught.value) == "f: is damaged (\\x1b[2J\\u202e x); delete it and make it again"
    assert ended(capsys, UserError("a\x1b[2J\nb\u2028c\rd")) == ["error: a\\x1b[2J", "error: b\\u2028c\\rd"]
