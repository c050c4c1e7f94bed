"""A GPU for each job: one that no other holds, until its process ends, and under Slurm the one that Slurm gave."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START = "import os, sys, time; from dfkd_steps.runtime import gpu; os.setuid(int(os.environ.get('AS_USER', os.getuid())));"
HOLD = START + "print(gpu.claim(poll=0.02), flush=True); sys.stdin.read()"
# One write each, to the end of a file of all jobs: so their order is the order of what happened.
BRIEF = (
    START
    + "log = os.open(os.environ['LOG'], os.O_WRONLY | os.O_APPEND | os.O_CREAT); mine = gpu.claim(poll=0.02);"
    + "os.write(log, f'{mine} taken\\n'.encode()); time.sleep(0.05); os.write(log, f'{mine} free\\n'.encode())"
)


@pytest.fixture
def jobs():
    """Starts processes that claim a GPU and hold it until their input ends or they are killed."""
    started, folder = [], Path(tempfile.mkdtemp())  # like /tmp; the folder of pytest is for one user
    folder.chmod(0o1777)

    def start(gpus, code=HOLD, **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "CUDA_", "DFKD_"))}
        told = {
            "DFKD_GPUS": str(gpus),
            "DFKD_GPU_LOCKS": str(folder / "locks"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **environment,
        }
        job = subprocess.Popen(
            [sys.executable, "-c", code], env=clean | told, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(job)
        return job

    start.folder = folder
    yield start
    for job in started:
        job.kill()
        job.wait()
        for pipe in (job.stdin, job.stdout, job.stderr):
            pipe.close()
    shutil.rmtree(folder)


def got(job) -> str:
    """The GPU that a job says it has."""
    return job.stdout.readline().rstrip("\n")


def test_each_has_its_own(jobs):
    assert sorted(got(job) for job in [jobs(4) for _ in range(4)]) == ["0", "1", "2", "3"]


def test_who_comes_last_waits_and_has_the_gpu_of_one_that_was_killed(jobs):
    holders = {got(job): job for job in [jobs(2) for _ in range(2)]}
    assert sorted(holders) == ["0", "1"]
    late = jobs(2)
    assert late.stderr.readline() == "waiting for one of 2 GPUs; all are in use by other jobs\n"
    assert late.poll() is None
    holders["1"].kill()  # kill -9: nothing of it runs any more that could give the GPU back
    assert got(late) == "1"
    last = jobs(2)
    holders["0"].stdin.close()  # this one ends by itself
    assert got(last) == "0"


@pytest.mark.parametrize(
    "command", ["-m dfkd_steps.dataset", "-m dfkd_steps.export", "-m dfkd_steps.cli evaluate no.st", "-m dfkd_steps.new"]
)
def test_what_computes_on_the_cpu_alone_does_not_wait(jobs, command, tmp_path):
    """With the only GPU held by another; a step that computes on it waits instead of refusing its arguments."""
    holder = jobs(1)
    assert got(holder) == "0"
    environment = {**os.environ, "DFKD_GPUS": "1", "DFKD_GPU_LOCKS": str(jobs.folder / "locks"), "PYTHONPATH": str(ROOT)}
    for name in ("DFKD_DEVICE", "CUDA_VISIBLE_DEVICES"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "waiting for" not in done.stderr and "error: " in done.stderr


def test_no_gpu_is_ever_shared(jobs, tmp_path):
    """More jobs than GPUs, all at once, and the next takes over from one that ended."""
    running = [jobs(3, BRIEF, LOG=str(tmp_path / "log")) for _ in range(9)]
    assert [job.wait() for job in running] == [0] * 9
    taken, most = set(), 0
    for line in (tmp_path / "log").read_text().splitlines():
        index, event = line.split()
        assert (index in taken) == (event == "free"), "two jobs had one GPU"
        taken ^= {index}
        most = max(most, len(taken))
    assert most > 1 and not taken


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_another_user_has_another(jobs):
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    first, second = jobs(2, AS_USER=nobody), jobs(2)
    assert {got(first), got(second)} == {"0", "1"}
    assert "waiting" in jobs(2, AS_USER=nobody).stderr.readline()
    assert "waiting" in jobs(2).stderr.readline()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_user_whose_files_are_private_does_not_lock_the_others_out(jobs):
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    program = HOLD.replace("print(", "os.umask(0o077); print(", 1)
    assert got(jobs(2, program)) == "0" and got(jobs(2, AS_USER=nobody)) == "1"
    private = jobs(2, program)
    assert "waiting" in private.stderr.readline() and os.stat(jobs.folder / "locks/0").st_mode & 0o777 == 0o644


def test_of_several_that_are_visible_each_takes_one(jobs):
    assert got(jobs(4, CUDA_VISIBLE_DEVICES="2,3", DFKD_DEVICE="cpu")) == "2,3", "takes none"
    held = [jobs(4, CUDA_VISIBLE_DEVICES="2, 3") for _ in range(2)]
    assert {got(job) for job in held} == {"2", "3"}
    assert "waiting for one of 2 GPUs" in jobs(4, CUDA_VISIBLE_DEVICES="2,3").stderr.readline()
    assert {got(jobs(4)), got(jobs(4))} == {"0", "1"}
    for given in ("2", "GPU-8932f937,GPU-46b81fc1", ""):
        assert got(jobs(4, CUDA_VISIBLE_DEVICES=given)) == given


def test_what_slurm_gave_is_kept(jobs):
    """Also where it is a GPU that a job outside of Slurm holds: who shares a host with Slurm asks Slurm."""
    assert got(jobs(2)) == "0"
    assert [got(jobs(2, SLURM_JOB_ID="7", CUDA_VISIBLE_DEVICES=given)) for given in ("0", "1", "0,1")] == ["0", "1", "0,1"]
    assert got(jobs(2, SLURM_JOB_ID="7")) == "", "asked for no GPU, and takes none"
    assert got(jobs(2)) == "1", "and no lock was taken for all that"


def test_no_gpu(jobs):
    assert [got(jobs(0)), got(jobs(2, DFKD_DEVICE="cpu"))] == ["", ""]
