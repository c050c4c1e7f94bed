"""What a process is set to: memory that stays, the device, bf16 where the device has it."""

import ast
import contextlib
import ctypes
import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from dfkd_steps.pipeline import graph
from dfkd_steps.runtime import device, disk, errors, event_files, gpu, progress, threads
from dfkd_steps.runtime.device import keep_memory, select_device
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.runtime.seeds import seed_of

# MB that the process holds after eleven tensors of 8 MB were made and let go; a part of the first may find room in the heap that
# imports left.
HELD = """
import sys, torch
from dfkd_steps.runtime import device, event_files, progress
if sys.argv[1] == "kept":
    device.keep_memory()
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 10**6
before = held()
tensors = [torch.ones(2_000_000) for _ in range(11)]
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
    keep_memory()


@pytest.mark.parametrize("given", ["meta", "cuda:99", "gpu"])
def test_a_device_that_steps_do_not_run_on(monkeypatch, given):
    monkeypatch.setenv("DFKD_DEVICE", given)
    with pytest.raises(UserError, match=f"DFKD_DEVICE: '{given}' is not a device of this machine; set cpu, cuda or mps"):
        select_device()


@pytest.mark.parametrize(
    ("instructions", "dtype"),
    [
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"neon": True}, torch.bfloat16),  # says nothing of bf16
    ],
)
def test_bf16_only_where_the_processor_computes_in_it(monkeypatch, capsys, instructions, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    device.has_bf16.cache_clear()
    device._say_fp32.cache_clear()
    try:
        for _ in range(2):
            with device.autocast("cpu", "bf16"):
                assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
        with device.autocast("cpu", "fp32"):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert device.settings("cpu")["bf16"] == (dtype == torch.bfloat16)
    finally:
        device.has_bf16.cache_clear()
    said = capsys.readouterr().err
    assert said.count("precision: this cpu has no bf16 instructions; computing in fp32") == (dtype == torch.float32)


# What a process is set to, and what its artefacts say of it.
SET = """
import torch
from dfkd_steps.runtime import device, event_files, progress
device.setup_process()
print(torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark, device.settings("cpu")["deterministic"])
"""


@pytest.mark.parametrize(("given", "said"), [("", "1 False True"), ("1", "1 False True"), ("0", "0 True False")])
def test_deterministic_algorithms_unless_switched_off(given, said):
    environment = {**os.environ, "DFKD_DETERMINISTIC": given}
    done = subprocess.run([sys.executable, "-c", SET], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == said


def test_a_switch_that_is_neither_0_nor_1(monkeypatch):
    monkeypatch.setenv("DFKD_DETERMINISTIC", "no")
    with pytest.raises(UserError, match="DFKD_DETERMINISTIC: 'no' must be 0 or 1; unset it for its default, 1"):
        device.setup_process()


# What every step with a training loop or a measurement calls.
TRAIN = """
import sys, torch
from dfkd_steps.models.hooks import macs
from dfkd_steps.runtime import device
device.setup_process()
net = torch.nn.Linear(2, 1)
for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
    optimizer = kind(net.parameters(), lr=0.1, fused=True)
    optimizer.load_state_dict(optimizer.state_dict())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    net(torch.ones(4, 2)).sum().backward()
    before = net.weight.clone()
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    assert (before != net.weight).all() and net.weight.requires_grad
assert macs(net, (2,)) == 2
print("torch._dynamo" in sys.modules)
"""


def test_the_compiler_is_not_imported():
    """It would take longer than all other imports of a step; a new release of torch may ask for it in new places."""
    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


@pytest.mark.parametrize(("command", "as_imported"), [(["python", "-m", "dfkd_steps.distill"], "False"), (["python"], "True")])
def test_garbage_is_looked_for_in_work_and_not_while_a_step_is_imported(command, as_imported):
    code = f"""
import gc, sys
sys.orig_argv = {command}
import dfkd_steps
print(gc.isenabled())
from dfkd_steps.runtime.commands import guarded
guarded("distill", lambda: print(gc.isenabled(), gc.get_freeze_count() > 1000))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [as_imported, "True", "True"], done.stderr


# ---------------------------------------------------------------------------------------------- what a workflow reserves
@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_a_profile_reserves_for_each_step_what_it_takes(profile, repository):
    """A step that it does not name would compute with one thread, and two steps on one GPU."""
    content = yaml.safe_load((repository / f"workflow/profiles/{profile}/config.yaml").read_text())
    steps = {*graph.STEPS, "shard"}
    assert content["set-threads"] == dict.fromkeys(steps, "$DFKD_THREADS")
    resources = content["set-resources"]
    assert set(resources) == steps - {"dataset"}  # which runs where Snakemake is
    assert resources["shard"] == resources["synthesize"]
    for step, reserved in resources.items():
        needs_none = "uses_gpu=False" in (repository / f"dfkd_steps/{step}.py").read_text()
        assert reserved.get("gpu", 0) == (0 if needs_none else 1), step
        assert ("runtime" in reserved) == (profile == "slurm") and reserved["mem_mb"] >= 4000, step
    assert (content["rerun-triggers"], content["rerun-incomplete"], content["show-failed-logs"]) == ("mtime", True, True)


# ---------------------------------------------------------------------------------------------- progress
def by_the_prefix_of_rules(code: str, folder):
    """What a rule whose program is ``code`` writes to Snakemake's stderr, and to its log."""
    snakefile = (Path(__file__).parents[2] / "workflow/Snakefile").read_text()
    told, prefix = re.search(r"^KILLED = ((?:.|\n)*?)\nshell\.prefix\(f(.*)\)$", snakefile, re.MULTILINE).groups()
    prefix = ast.literal_eval(prefix).replace("{KILLED}", ast.literal_eval(told))
    (folder / "program.py").write_text(code)
    command = f"{prefix}{sys.executable} {folder / 'program.py'} > {folder / 'log'} 2>&1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    return done.stderr, (folder / "log").read_text()


TELLS = """
import os, subprocess, sys
from dfkd_steps.runtime import progress
progress.FIRST = 0.0
progress.begin("distill a/b")
with progress.bar(total=40, desc="student", unit="epoch") as bar:
    for _ in range(40):
        bar.set_postfix_str("loss 0.5", refresh=False)
        bar.update()
print("done")
if len(sys.argv) == 1:
    subprocess.run([sys.executable, sys.argv[0], "child"], pass_fds=[3], check=True)
"""


def test_how_far_a_step_is_stands_on_the_terminal_of_a_workflow_and_not_in_its_log(tmp_path):
    terminal, log = by_the_prefix_of_rules(TELLS, tmp_path)
    lines = terminal.splitlines()
    assert len(lines) == 20, terminal  # one for each twentieth, and none of the process that the step has started
    assert re.fullmatch(r"  distill a/b: 2\d of 40 epochs, loss 0\.5, \d+ s left", lines[10])
    assert "of 40 epochs" not in log and log.count("done") == 2


def test_units_in_the_plural():
    assert [progress.plural(unit) for unit in ("step", "epoch", "class", "batch")] == ["steps", "epochs", "classes", "batches"]


IN_A_LOG = """
from dfkd_steps.runtime import progress
progress.LOG_INTERVAL = {interval}
with progress.bar(total=3, desc="student", unit="epoch") as bar:
    for number in range(3):
        if number:
            progress.say("snapshot after 10 images, 1.0 s")
        bar.update()
progress.say("distill: 3 epochs, 1.2 s, key abc")
"""


@pytest.mark.parametrize(("interval", "bars"), [(60.0, 0), (0.0, 3)])
def test_each_line_of_a_log_is_one(repository, interval, bars):
    """Tables read seconds from lines that begin with what they are about."""
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", IN_A_LOG.format(interval=interval)]
    lines = subprocess.run(command, capture_output=True, check=True, env=environment).stderr.decode().split("\n")
    snapshot, last = "snapshot after 10 images, 1.0 s", "distill: 3 epochs, 1.2 s, key abc"
    assert [line for line in lines if not line.startswith("student: ")] == [snapshot, snapshot, last, ""]
    assert sum(bool(re.search(r" [0-3]/3 \[", line)) for line in lines) >= bars and not any("\r" in line for line in lines)


def test_time_left_is_that_of_what_was_done_here(monkeypatch, tmp_path):
    monkeypatch.setenv("DFKD_PROGRESS", f"1:{os.getpid()}")
    clock, said = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(progress.os, "write", lambda fd, text: said.append(text.decode()))
    progress.begin("x")
    with progress.Bar(total=100, initial=50, unit="round", file=io.StringIO()) as bar:
        for seconds, number in ((5, 1), (15, 1), (20, 4), (30, 19), (31, 1), (331, 0)):
            clock[0] = float(seconds)
            bar.update(number)
    assert said == [
        "  x: 52 of 100 rounds, 6 min left\n",
        "  x: 75 of 100 rounds, 30 s left\n",
        "  x: 76 of 100 rounds, 5 min left\n",
    ]
    with progress.Bar(total=8, unit="class", file=io.StringIO()) as bar:
        clock[0] = 351.0
        bar.update(4)
    assert said[3] == "  x: 4 of 8 classes, 20 s left\n"
    monkeypatch.setenv("DFKD_PROGRESS", f"1:{2**22 + 1}")  # of another shell: no process has this number
    progress.begin("x")
    assert progress.terminal["fd"] is None


# ---------------------------------------------------------------------------------------------- TensorBoard
def test_event_files_hold_the_figures_by_number(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("DFKD_TENSORBOARD", str(tmp_path))
    for numbers in ((1, 2, 3), (3, 4)):  # interrupted after 3 was told, and before it was kept
        event_files.begin("results/d/t/s/none/student/student.safetensors")
        for number in numbers:
            event_files.add(number, {"loss": 1.0 / number})
    (folder,) = {path.parent for path in tmp_path.rglob("events.*")}
    assert folder.relative_to(tmp_path) == Path("d/t/s/none/student/student")
    found = accumulator.EventAccumulator(str(folder)).Reload().Scalars("loss")
    assert [one.step for one in found] == [1, 2, 3, 4] and found[3].value == 0.25


def test_event_files_need_the_package_and_are_off_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DFKD_TENSORBOARD", raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    event_files.begin("results/x.h5")
    event_files.add(1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("DFKD_TENSORBOARD", "runs")
    with pytest.raises(UserError, match=r"^DFKD_TENSORBOARD: needs the package tensorboard .*pip install 'dfkd\[tensorboard\]'"):
        event_files.begin("results/x.h5")


def test_windows_is_one_line():
    """Said before anything is imported that Windows lacks."""
    program = "import os; os.name = 'nt'; import dfkd_steps"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    line = "error: dfkd runs on Linux and macOS; on Windows install it inside WSL (wsl --install)\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


@pytest.mark.parametrize("given", ["abc", "-1", "1.5", ""])
def test_a_number_of_gpus_that_is_none(monkeypatch, given):
    monkeypatch.setenv("DFKD_GPUS", given)
    with pytest.raises(UserError, match=f"^DFKD_GPUS: '{given}' is not a number of GPUs; set 0 or more"):
        gpu.count()


@pytest.mark.parametrize("given", ["0", "x", "-1", "1025", "9" * 20, "\u00b2"])
def test_a_number_of_threads_that_is_none(monkeypatch, given):
    monkeypatch.setenv("DFKD_THREADS", given)
    with pytest.raises(UserError, match=f"^DFKD_THREADS: '{given}' is no"):
        threads.thread_count()


def test_a_seed_is_that_of_all_parts_in_their_order():
    parts = [("zskd", 1, 11), ("zskd", 11, 1), ("zskd", 111), ("zskd1", 11), ("zskd", 1), ("zskd", 1, "11", "")]
    assert len({seed_of(*given) for given in parts}) == len(parts) and seed_of("zskd", 1) == seed_of("zskd", "1")
    assert all(0 <= seed_of(*given) < 1 << 63 for given in parts)


def test_a_disk_without_room_is_said_and_other_faults_are_left_to_whoever_writes(tmp_path, monkeypatch):
    disk.require_room(tmp_path)
    assert not list(tmp_path.iterdir())
    for number, told in ((errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, False)):

        def full(number=number, **_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(disk.tempfile, "TemporaryFile", full)
        with pytest.raises(OSError, match=re.escape(str(tmp_path))) if told else contextlib.nullcontext():
            disk.require_room(tmp_path)


class Full:
    """A log on a full disk."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self):
        pass


def test_an_error_whose_log_has_no_room_goes_to_the_terminal(monkeypatch):
    read, write = os.pipe()
    monkeypatch.setitem(progress.terminal, "fd", write)
    monkeypatch.setattr(sys, "stderr", Full())
    assert errors.print_errors("x.h5: No space left on device; free disk space") == 2
    os.close(write)
    with os.fdopen(read) as said:
        assert said.read() == "error: x.h5: No space left on device; free disk space\n"


def test_the_log_of_a_job_in_a_workflow_is_never_empty(monkeypatch, capsys):
    """Below an empty one Snakemake does not show why a queue ended the job."""
    monkeypatch.setenv(progress.WHERE, f"2:{os.getpid()}")
    progress.begin("distill a/b")
    assert "distill a/b: begins" in capsys.readouterr().err
    monkeypatch.setenv(progress.WHERE, "")
    progress.begin("distill a/b")
    assert capsys.readouterr().err == ""
