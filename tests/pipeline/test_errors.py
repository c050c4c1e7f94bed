"""Bad input: both drivers show a line for each fault that says what to mend, Snakemake ends with code 2, and no file appears."""

import json
import math
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from dfkd_steps.pipeline import spec, sweep

from .conftest import ALL, TEACHER, at_once

BAD = {
    # what stands in params/experiment.yaml, and instead of what; the lines that are shown
    "specs": (
        {
            "zskd+batch=20+n=40": "zsdk+n=40+batch=20+steps=5, zskd+stepz=4, zskd+batch=20+n=40",
            "epochs=1]\ntransfer": "epochs=0]\ntransfer",
        },
        [
            "transfer: 'zsdk+n=40+batch=20+steps=5' has its overrides out of order; write 'zsdk+batch=20+n=40+steps=5'",
            "transfer 'zskd+stepz=4': stepz: unknown key; did you mean steps?",
            "teacher 'lenet5+epochs=0': epochs: '0' is below 1",
        ],
    ),
    "source": (
        {"source: [mnist-5k]": "source: []"},
        ["reads mnist-5k, which is in neither dataset nor source; add 'mnist-5k' to source"],
    ),
}


def refused(copy, *arguments) -> list[str]:
    """The faults that Snakemake names, one a line, before it ends with code 2; it does so even where it is told to be quiet."""
    code, said = copy.ended("snakemake", "--quiet", "all", "--", *arguments)
    assert code == 2, said
    return [line.removeprefix("error: ") for line in said.splitlines() if not line.startswith("Using workflow specific profile")]


@pytest.mark.parametrize("name", BAD)
def test_bad_sweep(name, fresh, tmp_path):
    changes, lines = BAD[name]
    copy = fresh.again(tmp_path / "copy")
    for old, new in changes.items():
        copy.edit("params/experiment.yaml", old, new)
    by_snakemake, by_dvc = at_once(lambda: refused(copy), lambda: copy.dvc("repro", fails=True))
    assert len(by_snakemake) == len(lines)
    assert all(line in "\n".join(by_snakemake) and line in by_dvc for line in lines), (by_snakemake, by_dvc)
    assert "Traceback" not in by_dvc
    assert not copy.made()


def test_bad_paths(fresh):
    """Each fault of a path; nothing is made of those that are right. What no rule makes is refused by Snakemake itself."""
    right = "results/mnist-5k/dataset.h5"
    first, second = refused(fresh, right, "results/mnist-5k/lenet5/noise/equals/lenet5-halb/metrics.json")
    assert first.startswith("balance: no file params/balance/equals.yaml; did you mean equal?")
    assert second.startswith("student: no file params/student/lenet5-halb.yaml; did you mean lenet5-half?")
    assert "No rule to produce results/mnist-5k/data.h5" in fresh.snakemake(right, "results/mnist-5k/data.h5", fails=True)
    assert "No rule to produce ." in fresh.snakemake("-n", ".", fails=True)
    every = refused(fresh, right, "./results/nope/dataset.h5", "report/../results/nix/dataset.h5")
    assert [line.split(";")[0] for line in every] == [
        "dataset: no file params/dataset/nope.yaml",
        "dataset: no file params/dataset/nix.yaml",
    ]
    code, absurd = fresh.ended("snakemake", "-n", "--config", "transfer=[noise+n=1000000000000]")
    assert code == 2
    assert "noise+n=1000000000000/transfer_set.h5: needs " in absurd and "of disk space, with only" in absurd
    code, other = fresh.ended("snakemake", "-n", "version", "--config", "balance=[none]")
    assert code == 2 and "error: version: DVC versions the sweep of params/experiment.yaml, but this is" in other
    # `all` is the value of an option here and no target: the path is what counts.
    every, path = ("snakemake", "-n", "--cores", "all", "--quiet", "all"), "results/mnist-5k/lenet5/noise+n=1000000000000"
    code, said = fresh.ended(*every, "--config", "transfer=[noise+n=1000000000000]", "--", right)
    assert code == 0 and "1 artefacts to make" in said, said
    assert fresh.ended(*every, "--", f"{path}/transfer_set.h5")[0] == 2
    assert not fresh.made()


def test_dvc_runs_no_text_of_a_sweep(fresh, tmp_path):
    """`--single-item --force` runs a stage before `resolve` has checked the sweep."""
    copy = fresh.again(tmp_path / "copy")
    for text in ("x'; touch RAN; '", "$(touch RAN)", "x\\nEOF\\ntouch RAN"):
        (copy.folder / "params/experiment.yaml").write_text(
            f'dataset: ["{text}"]\nteacher: [lenet5]\ntransfer: [noise]\nbalance: [none]\nstudent: [lenet5-half]\n'
            "source: []\nexport: []\n"
        )
        said = copy.dvc("repro", "-s", "-f", "dataset", fails=True)
        assert "is not NAME or NAME+key=value" in said and "Traceback" not in said
        assert not (copy.folder / "RAN").exists()
    for name, stage in yaml.safe_load((copy.folder / "dvc.yaml").read_text())["stages"].items():
        assert "${" not in stage["cmd"], f"{name}: a value of a sweep stands in the command, and a shell would read it"


def test_beside_dvc(fresh, tmp_path):
    """By DVC's own record of who writes what: a process that was killed does not count, nor one that only resolves."""
    copy, gone = fresh.again(tmp_path / "copy"), subprocess.Popen(["true"])
    gone.wait()
    (copy.folder / ".dvc/tmp").mkdir(parents=True, exist_ok=True)
    resolves = {"results/x/dataset.h5": gone.pid, "results/_resolved": os.getpid()}
    for writers, refuses in ((resolves, False), ({"results/x/dataset.h5": os.getpid()}, True)):
        record = {str(copy.folder / path): {"pid": number, "cmd": "dvc repro"} for path, number in writers.items()}
        (copy.folder / ".dvc/tmp/rwlock").write_text(json.dumps({"write": record, "read": {}}))
        code, said = copy.ended("snakemake", "-n", "--quiet", "all")
        assert ("error: .dvc/tmp/rwlock: DVC works in this folder (process" in said) == refuses, said
        assert code == (2 if refuses else 0) and "Traceback" not in said


def test_beside_snakemake(fresh, tmp_path, monkeypatch):
    """By Snakemake's locks, which its rule ``version`` holds too when it calls DVC."""
    copy = fresh.again(tmp_path / "copy")
    locks = copy.folder / ".snakemake/locks"
    locks.mkdir(parents=True, exist_ok=True)
    for name, within, refuses in (
        ("", {}, False),
        ("0.output.lock", {}, True),
        ("0.output.lock", {"DFKD_PROGRESS": "3:1"}, False),
    ):
        if name:
            (locks / name).touch()
        for variable, value in within.items():
            monkeypatch.setenv(variable, value)
        code, said = copy.ended(sys.executable, "-m", "dfkd_steps.resolve")
        assert code == (2 if refuses else 0) and "Traceback" not in said
        assert ("error: .snakemake/locks: Snakemake works in this folder; wait" in said) == refuses


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write anywhere, and no setpriv is here")
@pytest.mark.parametrize("closed", [".", "empty", ".snakemake", ".snakemake/metadata", "logs"])
def test_in_the_folder_of_another_user(closed, fresh, tmp_path):
    """Who may read it and not write gets a line, where Snakemake would end with a traceback; a dry run too."""
    copy = fresh.again(tmp_path / "copy")
    (copy.folder / ".snakemake").mkdir(exist_ok=True)
    if closed == "empty":  # of what Snakemake leaves
        shutil.rmtree(copy.folder / ".snakemake")
        closed = "."
    (copy.folder / closed).mkdir(parents=True, exist_ok=True)
    (copy.folder / closed).chmod(0o555)
    no_leave = "-dac_override,-dac_read_search"  # what lets root write anywhere
    mortal = ["setpriv", f"--bounding-set={no_leave}", f"--inh-caps={no_leave}"] if os.geteuid() == 0 else []
    for options in ([], ["-n"]):
        code, said = copy.ended(*mortal, "snakemake", *options)
        assert code == 2 and "Traceback" not in said, said
        line = r"^error: \S+: (may not be written; work in a clone|Permission denied; )"
        assert re.search(line, said, re.MULTILINE), said
    (copy.folder / closed).chmod(0o755)


def test_sweep_of_a_stranger(fresh, tmp_path):
    """Snakemake runs Python that stands in a file of --configfile, so that way is closed; in one of --config sweep=FILE nothing
    runs."""
    copy = fresh.again(tmp_path / "copy")
    (copy.folder / "params/experiment.yaml").rename(copy.folder / "own.yaml")
    said = copy.snakemake("-n", "--directory", ".", "--config", "sweep=own.yaml")
    assert int(re.search(r"^total +(\d+)$", said, re.MULTILINE)[1]) == sum(ALL.values()) + 1  # and the rule all
    assert f"report: {sweep.report_folder('own.yaml')}/index.html" in said, "no sweep replaces the report of another"
    (copy.folder / "evil.yaml").write_text("__use_yte__: true\ntransfer: [?open('RAN', 'w') and 'noise']\n")
    code, said = copy.ended("snakemake", "-n", "--config", "sweep=evil.yaml")
    assert code == 2 and "error: evil.yaml: " in said
    assert not (copy.folder / "RAN").exists()
    code, said = copy.ended("snakemake", "-n", "--config", "sweep=3")
    assert code == 2 and "error: --config sweep=3: is not the name of a file; give one like" in said
    code, said = copy.ended("snakemake", "-n", "--configfile", "own.yaml")
    assert code == 2 and "error: --configfile: a sweep is data, not code; give --config sweep=own.yaml" in said


def test_sweeps_of_the_published_pairs_can_be_planned(fresh):
    """Their data are downloaded, so a plan needs none; CIFAR-10 and CIFAR-100, but where settings are for one of them."""
    sweeps = fresh.folder / "params/sweeps"
    paths = [*sweeps.glob("resnet34-*.yaml"), *sweeps.glob("wrn40-2-[!pq]*.yaml")]  # without those of a CPU
    assert len(paths) >= 10
    experiments = [yaml.safe_load(path.read_text()) for path in paths]
    students = {final for experiment in experiments for final in sweep.finals(experiment)}
    assert len(students) >= sum(math.prod(len(sweep.expanded(one)[group]) for group in spec.GROUPS) for one in experiments)
    said = fresh.snakemake(*sorted(students), "-n", "--quiet", "rules")  # all in one plan, which takes seconds
    assert re.search(rf"^distill +{len(students)}$", said, re.MULTILINE), said
    assert not fresh.made()


def test_line_of_a_step_that_fails(by_dvc, tmp_path):
    """A step finds out what no config can tell: here, more samples than the data set has."""
    copy = by_dvc.again(tmp_path / "copy")
    made = copy.made()
    path = f"{TEACHER}/dataset+n=90000+source=mnist-5k/transfer_set.h5"
    said = copy.snakemake(path, fails=True)
    assert "error: transfer: n: 90000 is more than the 4000 training images" in said
    assert "Traceback" not in said
    # One that the system kills says nothing itself.
    copy.edit("dfkd_steps/synthesize.py", "import functools", "import os\nos.kill(os.getpid(), 9)\nimport functools")
    said = copy.snakemake("--allowed-rules", "synthesize", "--", f"{TEACHER}/noise+n=40/transfer_set.h5", fails=True)
    assert "error: the step was killed (SIGKILL), as a rule because memory ran out; set DFKD_MEMORY, or" in said
    assert "; under Slurm raise mem_mb" in said
    assert copy.made() == made


def test_a_job_goes_by_its_own_specs_whatever_has_become_of_the_sweep(fresh, tmp_path):
    """A job may wait for days in a queue, and its process reads the Snakefile when it begins."""
    copy, out = fresh.again(tmp_path / "copy"), "results/mnist-5k/dataset.h5"

    def job(rule, target):
        options = ("--mode", "subprocess", "--executor", "local", "--cores", "1", "--force", "--nolock", "--no-hooks")
        return ("snakemake", *options, "--allowed-rules", rule, "--target-jobs", f"{rule}:{target}")

    copy.edit("params/experiment.yaml", "transfer: [", "transfer: [zsdk, ")
    assert copy.ended("snakemake", "-n")[0] == 2
    copy.run(*job("dataset", "dataset=mnist-5k"))
    assert (copy.folder / out).is_file()
    # What is wrong with its own specs the step says, in the log that Snakemake shows where it submitted the job.
    copy.edit("params/dataset/mnist-5k.yaml", "source:", "stepz: 4\nsource:")
    copy.run(*job("dataset", "dataset=mnist-5k"), fails=True)
    assert "error: params/dataset/mnist-5k.yaml: stepz: unknown key" in (copy.folder / f"logs/{out}.log").read_text()
    # The shards that a job waits for are those of the process that planned it.
    shards = ("env", "DFKD_SHARDS=2", *job("synthesize", "dataset=mnist-5k,teacher=lenet5,transfer=noise"))
    said = copy.run(*shards, fails=True)
    assert "noise/.shards/0-of-2.h5 (missing" in said and "noise/.shards/1-of-2.h5 (missing" in said, said
