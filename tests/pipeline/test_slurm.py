"""The Slurm profile on a real Slurm of one node: a sweep that a cancelled job, a node that dies and kill -9 do not stop."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from .conftest import DATASET, STUDENT, TEACHER, ZSKD, Copy


def missing(*programs) -> list[str]:
    """Those that are not installed here."""
    return [name for name in programs if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]


MISSING, NO_DATABASE = missing("slurmctld", "slurmd", "munged"), missing("slurmdbd", "mariadbd")
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)} here; install slurm-wlm and munge (.ci/run does)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="the daemons of Slurm start jobs as their users, which takes root"),
]

# Four runs; the first student of the first balanced set is the one that the other drivers' tests make.
SWEEP = f"""
dataset: [{DATASET.split("/")[1]}]
teacher: [{TEACHER.split("/")[2]}]
transfer: [{ZSKD.split("/")[3]}]
balance: [equal, none]
student: [lenet5-half+epochs=1, lenet5-half+epochs=1+seed=1]
"""
COMMAND = (
    "snakemake", "--workflow-profile", "workflow/profiles/slurm",
    "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10",
)  # fmt: skip
# Fewer entries than by the profile, so that the test is short (nothing fails that shares one): at first one for each balanced
# set, then one for all students.
FIRST = ("--groups", "balance=student", "distill=student", "evaluate=student")
SECOND = ("--groups", "distill=student", "evaluate=student", "--group-components", "student=4")
PATIENCE = 600  # seconds until something that has to happen counts as not happening, on a busy machine


class Cluster:
    """Slurm's own commands, on the cluster of the test."""

    def __init__(self, folder: Path, accounting: bool = False):
        self.folder = folder
        self.environment = Copy.environment() | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.environment["SLURM_ACCOUNTING"] = "1" if accounting else ""
        self.environment["PATH"] = f"{folder / 'bin'}:{self.environment['PATH']}:/usr/sbin"
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.environment["SLURM_PORT"] = str(one.getsockname()[1])

    def call(self, *command) -> str:
        done = subprocess.run(list(map(str, command)), env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def script(self, action: str):
        self.call(Path(__file__).with_name("slurm_local.sh"), action, self.folder)

    def jobs(self, *states) -> dict[str, str]:
        """Number and comment (which names rule and wildcards) of the jobs in any of these states; of all without."""
        listing = self.call("squeue", "--noheader", "--states=all", "--format=%A|%T|%k")
        fields = (line.split("|") for line in listing.splitlines())
        return {number: comment for number, state, comment in fields if not states or state in states}

    def students(self, *states) -> list[str]:
        return sorted((number for number, comment in self.jobs(*states).items() if "student" in comment), key=int)

    def node(self, state: str):
        self.call("scontrol", "update", f"nodename={socket.gethostname().split('.')[0]}", f"state={state}", "reason=test")


def wait_for(condition, what: str, running=None):
    """What ``condition`` returns as soon as it is true; fails where it takes too long or the process ends before."""
    limit = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert running is None or running.poll() is None, f"snakemake ended before: {what}"
        assert time.monotonic() < limit, f"never happened: {what}"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A running Slurm; stopped at the end."""
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        found.script("start")
        yield found
    finally:
        found.script("stop")


@pytest.fixture(scope="module")
def sweep(cluster, repository, tmp_path_factory):
    """A sweep that everything happens to, finished at the end; with what was said and submitted."""
    copy, started = Copy.of_repository(repository, tmp_path_factory.mktemp("sweep") / "copy", SWEEP), []

    def start(name, *options):
        log, command = (copy.folder / name).open("w"), (*COMMAND, *options)
        one = subprocess.Popen(command, cwd=copy.folder, env=cluster.environment, stdout=log, stderr=log, start_new_session=True)
        started.append(one)
        return one

    try:
        first = start("first.log", *FIRST)
        disturb(cluster, copy, first)
        kill(first)
        copy.left = cluster.students("RUNNING", "PENDING")
        # As docs/cluster.md says.
        copy.snakemake("--unlock")
        run = re.search(r"SLURM run ID: (\S+)", (copy.folder / "first.log").read_text())[1]
        cluster.call("scancel", "--me", f"--name={run}")
        wait_for(lambda: not cluster.jobs("RUNNING", "PENDING", "COMPLETING"), "the jobs of the killed run end")
        copy.submitted = cluster.jobs()
        code = start("second.log", *SECOND).wait(PATIENCE)
    finally:
        for one in started:
            kill(one)
    copy.first, copy.second = ((copy.folder / name).read_text() for name in ("first.log", "second.log"))
    assert code == 0, copy.second
    copy.finally_submitted = cluster.jobs()
    return copy


def kill(process):
    """kill -9 of a process and its children, if it is still there."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def disturb(cluster, copy, snakemake):
    """While students are made, the node dies; of its two jobs one is cancelled and one started again by Slurm."""
    found = wait_for(lambda: len(found := cluster.students("RUNNING")) == 2 and found, "both entries run", snakemake)
    copy.cancelled, copy.requeued = found
    cluster.node("down")
    wait_for(lambda: cluster.students("PENDING") == found, "Slurm takes the jobs of the dead node back", snakemake)
    cluster.call("scancel", copy.cancelled)
    time.sleep(2)  # a job that starts anew within the second in which Slurm took it back is killed: "credential revoked"
    cluster.node("resume")
    cluster.call("scontrol", "update", f"jobid={copy.requeued}", "starttime=now")  # Slurm would wait for two minutes
    log = copy.folder / "first.log"
    wait_for(lambda: "Trying to restart job" in log.read_text(), "the cancelled job is noticed", snakemake)
    wait_for(lambda: list(copy.folder.glob("results/*/*/*/*/*/student.safetensors")), "a student is made", snakemake)


def test_whole(sweep):
    """After all that: four runs and a report, everything current by its own key, nothing left to do."""
    metrics = sorted(sweep.folder.glob("results/*/*/*/*/*/metrics.json"))
    assert len(metrics) == 4
    assert sweep.audit() == set()
    assert sweep.jobs() == {}
    assert "top-1 %" in sweep.second


def test_same_bytes_as_elsewhere(sweep, by_dvc):
    made, elsewhere = sweep.made(), by_dvc.made()
    shared = {
        f"{DATASET}/dataset.h5",
        f"{TEACHER}/teacher.safetensors",
        f"{ZSKD}/transfer_set.h5",
        f"{ZSKD}/{STUDENT}/metrics.json",
    }
    assert shared <= set(made) & set(elsewhere)
    assert {name: made[name] for name in made if name in elsewhere and name.startswith("results/")} == {
        name: elsewhere[name] for name in elsewhere if name in made and name.startswith("results/")
    }


def test_no_step_shares_its_entry_by_the_profile():
    """Where one step of an entry fails, Snakemake deletes what the others have made: a student whose evaluation failed."""
    profile = yaml.safe_load(Path("workflow/profiles/slurm/config.yaml").read_text())
    assert "groups" not in profile and "group-components" not in profile


def test_few_entries_and_none_for_the_dataset(sweep):
    kinds = sorted(re.sub("_wildcards.*", "", comment) for comment in sweep.submitted.values())
    one_for_each_set, retried = 2, 1
    students = ["rule_student_balance_distill_evaluate"] * (one_for_each_set + retried)
    assert kinds == sorted(["rule_teacher", "rule_synthesize", *students])
    later = {number: comment for number, comment in sweep.finally_submitted.items() if number not in sweep.submitted}
    assert len(later) == 1 and min(later.values()).startswith("rule_student"), "four students at most, four to an entry"


def test_cancelled_job_is_retried_and_that_of_a_dead_node_goes_on(cluster, sweep):
    assert "JobState=CANCELLED" in cluster.call("scontrol", "show", "job", sweep.cancelled)
    assert "Restarts=1" in cluster.call("scontrol", "show", "job", sweep.requeued)
    entries = re.findall(r"Job (\S+) has been submitted with SLURM jobid (\d+)", sweep.first)
    first_entry = dict(reversed(entries))  # a job that is started again has a second one
    assert [first_entry[job] for job in re.findall(r"Trying to restart job (\S+)\.", sweep.first)] == [sweep.cancelled]


def test_jobs_of_a_killed_run_are_cancelled_by_its_name(cluster, sweep):
    assert sweep.left, "kill -9 of snakemake leaves its jobs in the queue"
    assert all("JobState=CANCELLED" in cluster.call("scontrol", "show", "job", number) for number in sweep.left)
    assert not cluster.jobs("RUNNING", "PENDING")


def test_a_step_gets_what_the_profile_asks_for(cluster, sweep):
    number = next(number for number, comment in sweep.submitted.items() if comment.startswith("rule_synthesize"))
    told = cluster.call("scontrol", "show", "job", number)
    assert "TimeLimit=1-00:00:00" in told and "mem=8000M" in told and "NumCPUs=1" in told
    assert re.search(r"TresPerJob=gres[:/]gpu:1", told)  # releases of Slurm differ
    assert not re.search(
        r"^\s*(threads|resources):", "".join(one.read_text() for one in Path("workflow/rules").glob("*.smk")), re.M
    )


def test_gpu_that_slurm_gave(cluster, repository):
    """Two jobs at once have one each, one that asked for none has none, whatever the lock of the host says."""
    code = "import time; from dfkd_steps.runtime import gpu; print(f'<{gpu.claim()}>', flush=True); time.sleep(3)"
    environment = cluster.environment | {"PYTHONPATH": str(repository), "DFKD_GPUS": "2", "DFKD_DEVICE": ""}

    def job(*options):
        command = ["srun", "--ntasks=1", "--mem=100", *options, sys.executable, "-c", code]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    both = [job("--gpus=1"), job("--gpus=1")]
    assert sorted(one.communicate()[0].strip() for one in both) == ["<0>", "<1>"]
    assert job().communicate()[0].strip() == "<>"


@pytest.mark.skipif(bool(NO_DATABASE), reason=f"no {', '.join(NO_DATABASE)} here; install slurmdbd and mariadb-server")
def test_with_accounting(repository, tmp_path_factory):
    """Where Slurm keeps accounts the profile works as it is: a cancelled job is noticed and submitted again."""
    cluster, target = Cluster(tmp_path_factory.mktemp("accounts"), accounting=True), f"{TEACHER}/noise+n=100/transfer_set.h5"
    copy = Copy.of_repository(repository, tmp_path_factory.mktemp("accounted") / "copy")
    log = copy.folder / "said.log"
    try:
        cluster.script("start")
        with log.open("w") as said:
            snakemake = subprocess.Popen(
                (*COMMAND, target), cwd=copy.folder, env=cluster.environment, stdout=said, stderr=said, start_new_session=True
            )
        wait_for(lambda: cluster.jobs("RUNNING"), "the teacher is trained", snakemake)
        cluster.call("scancel", *cluster.jobs("RUNNING"))
        assert snakemake.wait(PATIENCE) == 0, log.read_text()
        states = cluster.call("sacct", "--allusers", "--allocations", "--noheader", "--parsable2", "--format=State").split("\n")
    finally:
        cluster.script("stop")
    assert sorted(state.split()[0] for state in states if state) == ["CANCELLED", "COMPLETED", "COMPLETED"]
    assert set(copy.made()) == {f"{DATASET}/dataset.h5", f"{TEACHER}/history.csv", f"{TEACHER}/teacher.safetensors", target}
    assert copy.audit() == set()
