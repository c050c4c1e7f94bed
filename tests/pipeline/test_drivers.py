"""Snakemake and DVC: the same bytes, and each takes over what the other made without running it."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from dfkd_steps.storage import atomic, dataset_file, exported

from .conftest import ALL, BASELINE, DATASET, STUDENT, TEACHER, ZSKD


def test_same_bytes(by_snakemake, by_dvc):
    made = by_snakemake.made()
    assert made == by_dvc.made()
    assert {f"{ZSKD}/{STUDENT}/metrics.json", f"{BASELINE}/{STUDENT}/history.csv", "report/results.csv"} <= set(made)
    assert (by_snakemake.folder / "dvc.lock").read_text() == (by_dvc.folder / "dvc.lock").read_text()


def test_ends_with_the_table(by_snakemake, by_dvc):
    for said in (by_snakemake.said, by_dvc.said):
        assert "report/index.html" in said[said.index("top-1 %") :], said
    assert "all: 2 runs and their report" in by_snakemake.said and "    input: " not in by_snakemake.said


def test_snakemake_then_dvc(by_snakemake):
    assert by_snakemake.status() == set()
    assert re.findall("Running stage '(.*)'", by_snakemake.dvc("repro")) == ["resolve"]


def test_another_run_leaves_the_list_of_metrics_alone(by_snakemake, tmp_path):
    """The report of a run that is going on is made from the list that this run wrote at its start."""
    copy = by_snakemake.again(tmp_path / "copy")
    lists = {path: path.read_text() for path in copy.folder.glob("logs/report/metrics*")}
    assert [f"{ZSKD}/{STUDENT}/metrics.json" in text for text in lists.values()] == [True]
    said = copy.snakemake("--config", "transfer=[noise+n=30]", "--", "results/mnist-5k+train=60/dataset.h5")
    assert "top-1 %" not in said, "the table of a report that this run did not make"
    after = {path: path.read_text() for path in copy.folder.glob("logs/report/metrics*")}
    assert len(after) == 2 and after.items() > lists.items()


def test_dvc_then_snakemake(by_dvc):
    before = by_dvc.made()
    assert "Nothing to be done" in by_dvc.snakemake()
    assert "top-1 %" in by_dvc.run(sys.executable, "-m", "dfkd_steps.cli", "table")
    assert by_dvc.made() == before
    assert by_dvc.status() == set()


def test_dvc_makes_nothing_again_that_was_not_handed_over(by_snakemake, tmp_path):
    """DVC deletes the outputs of a stage that it knows nothing of: what is current comes back, also after a kill in between, and
    what is damaged does not."""
    copy = by_snakemake.again(tmp_path / "copy")
    (copy.folder / "dvc.lock").unlink()
    shutil.rmtree(copy.folder / ".dvc/cache/runs")
    teacher, dataset = copy.folder / TEACHER / "teacher.safetensors", copy.folder / DATASET / "dataset.h5"
    before = copy.made()
    copy.dvc("repro", "-q", "resolve")
    teacher.unlink()
    with open(dataset, "r+b") as file:
        file.seek(dataset.stat().st_size // 2)
        file.write(b"damage")
    said = copy.dvc("repro", "teacher")
    assert re.findall("(.*): is current; DVC takes it over", said) == [f"{TEACHER}/teacher.safetensors"]
    assert "teacher: lenet5" not in said, "it was trained"
    assert copy.made() == before


def test_changed_there_and_back(by_snakemake, tmp_path):
    """The file of a driver that ran in between is found out, by the audit and by Snakemake, by nothing but its key."""
    copy, student = by_snakemake.again(tmp_path / "copy"), f"{ZSKD}/{STUDENT}/student.safetensors"
    assert copy.audit() == set()
    copy.edit("params/student/lenet5-half.yaml", "arch:", "clip: 0.5\narch:")
    (copy.folder / student).unlink()
    copy.run("python", "-m", "dfkd_steps.distill", student, f"{TEACHER}/teacher.safetensors", f"{ZSKD}/equal/transfer_set.h5")
    assert student not in copy.audit(fails=True)
    assert copy.jobs(student) == {}
    copy.edit("params/student/lenet5-half.yaml", "clip: 0.5\n", "")
    assert copy.audit(fails=True) == {student}
    before = entries(copy)
    assert copy.jobs() == {"distill": 1, "evaluate": 1, "report": 1}
    copy.snakemake("--dag")
    assert entries(copy) == before, "a dry run changes no file and no date"
    copy.snakemake("--cores", "1")
    assert copy.jobs() == {} and copy.audit() == set()
    assert copy.made() == by_snakemake.made()
    assert not list(copy.folder.glob(".snakemake/outdated-*"))


def entries(copy) -> dict[str, int]:
    """Every file and folder but Snakemake's own and compiled code, with its modification time."""
    found = {str(path.relative_to(copy.folder)): path.lstat().st_mtime_ns for path in copy.folder.rglob("*")}
    return {name: time for name, time in found.items() if not name.startswith(".") and "__pycache__" not in name}


def test_dates_of_current_files_do_not_count(by_dvc, tmp_path):
    """Files come in any order from a download; what follows an edit runs, and what is current does not."""
    copy = by_dvc.again(tmp_path / "copy")
    shutil.rmtree(copy.folder / ".snakemake", ignore_errors=True)
    late = ("teacher.safetensors", "../dataset.h5", "../../mnist-5k/dataset.h5", f"{ZSKD.split('/')[-1]}/{STUDENT}/metrics.json")
    for name in late:  # which a step reads, another transfer set, and the report
        os.utime(copy.folder / TEACHER / name)
    assert copy.jobs() == {}
    copy.edit("params/student/lenet5-half.yaml", "arch:", "clip: 0.5\narch:")
    assert copy.jobs() == {"distill": 2, "evaluate": 2, "report": 1}


def test_date_in_the_future(by_snakemake, tmp_path):
    """Snakemake would make a student for hours and then throw it away, because its teacher is newer."""
    copy = by_snakemake.again(tmp_path / "copy")
    copy.run("touch", "-d", "+1 hour", f"{TEACHER}/teacher.safetensors")
    code, said = copy.ended("snakemake", "-n")
    assert code == 2 and f"error: {TEACHER}/teacher.safetensors: is dated " in said and "in the future" in said, said
    os.utime(copy.folder / TEACHER / "teacher.safetensors")
    assert copy.jobs() == {}


def test_behind_symbolic_links(by_snakemake, tmp_path):
    """A data set's folder lies on another disk; what is stale in it is found, and links that lead back are no trap."""
    copy = by_snakemake.again(tmp_path / "copy")
    shutil.move(copy.folder / DATASET, tmp_path / "elsewhere")
    (copy.folder / DATASET).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(copy.folder / "results")
    assert copy.audit() == set() and copy.jobs() == {}
    copy.edit("params/student/lenet5-half.yaml", "arch:", "clip: 0.5\narch:")
    assert len(copy.audit(fails=True)) == 4
    assert copy.jobs() == {"distill": 2, "evaluate": 2, "report": 1}
    said = copy.snakemake("--cores", "1", "--allowed-rules", "report", "all", fails=True)  # no table of old runs
    assert "2 of 2 runs of the report are not current" in said and "top-1 %" not in said


def test_a_preset_that_is_edited_while_snakemake_runs(fresh, tmp_path):
    """Snakemake has read it before, and nothing was stale then."""
    copy, preset = fresh.again(tmp_path / "copy"), "params/dataset/mnist-5k.yaml"
    python = tmp_path / "bin/python"  # which the rule starts
    python.parent.mkdir()
    edit = f'case "$*" in *dfkd_steps.dataset*) {sys.executable} "$@"; echo \'seed: 7\' >> {preset}; exit;; esac'
    python.write_text(f'#!/bin/sh\n{edit}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    searched = f"PATH={python.parent}:{copy.environment()['PATH']}"
    said = copy.run("env", searched, "snakemake", "--cores", "1", "results/mnist-5k/dataset.h5")
    assert "warning: 1 files of the sweep are still not current" in said, said


def test_nobody_asks_the_queue_before_a_local_run(by_snakemake, tmp_path):
    """A queue that does not answer once hung every run, and a job of it whose folder is gone ended every run."""
    tool = tmp_path / "bin/squeue"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/asked\necho '17|dfkd_x|/nonexistent/folder'\nexec sleep 300\n")
    tool.chmod(0o755)
    searched = f"PATH={tool.parent}:{by_snakemake.environment()['PATH']}"
    said = by_snakemake.run("timeout", "250", "env", searched, "snakemake", "-n")
    assert "Nothing to be done" in said and not (tmp_path / "asked").exists()


def can_mount() -> bool:
    """May this process mount in a name space of its own?"""
    return shutil.which("unshare") is not None and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs root")
def test_a_dry_run_on_results_that_are_read_only(by_snakemake, tmp_path):
    """An input that is newer than its output: dates are passed over and not mended, for which there would be no permission."""
    copy = by_snakemake.again(tmp_path / "copy")
    os.utime(copy.folder / DATASET / "dataset.h5")
    read_only = (
        "mount --bind results results && mount -o remount,ro,bind results && ! touch results/x 2>/dev/null && exec snakemake"
    )
    said = copy.run("unshare", "-m", "sh", "-c", f"{read_only} -n")
    assert "Nothing to be done" in said and "Traceback" not in said
    copy.edit("params/student/lenet5-half.yaml", "arch:", "clip: 0.5\narch:")
    # What would have to be made anew, Snakemake refuses to plan where it may not write.
    said = copy.run("unshare", "-m", "sh", "-c", f"{read_only} -n --quiet rules", fails=True)
    assert "Write-protected output" in said and "Traceback" not in said


@pytest.mark.parametrize("name", ["index.html", "results.csv", "summary.json"])
def test_every_file_of_the_report_is_made(name, by_snakemake, tmp_path):
    copy = by_snakemake.again(tmp_path / "copy")
    (copy.folder / "report" / name).unlink()
    assert copy.jobs() == {"report": 1}


def test_what_no_other_job_follows_is_made_again(by_snakemake, tmp_path):
    """A page by other code, and an export of an earlier config: all that they are made from is older than they are."""
    copy = by_snakemake.again(tmp_path / "copy")
    copy.edit("dfkd_steps/report.py", "\ndef main", "\nADDED = 1\n\n\ndef main")
    copy.edit("params/experiment.yaml", "export: []", "export: [lenet5-half+epochs=1]")
    for sets in (ZSKD, BASELINE):
        out = copy.folder / sets / STUDENT / "export.json"
        for path in exported.paths(out):
            path.parent.mkdir(exist_ok=True)
            path.write_text("of an earlier config")
        atomic.write_json(out, {"key": "of an earlier config"})
    assert copy.jobs() == {"export": 2, "report": 1}


def test_audit_finds_damage(by_snakemake, tmp_path):
    copy = by_snakemake.again(tmp_path / "copy")
    history, truncated, foreign = f"{TEACHER}/history.csv", f"{ZSKD}/transfer_set.h5", f"{ZSKD}/{STUDENT}/metrics.json"
    (copy.folder / history).write_text("epoch,loss,lr\n1,0.0,0.0\n")
    (copy.folder / truncated).write_bytes((copy.folder / truncated).read_bytes()[:3000])
    (copy.folder / foreign).write_text('{"top1": 99.9}\n')
    assert copy.audit(fails=True) == {f"{TEACHER}/teacher.safetensors", truncated, foreign}
    assert copy.jobs() == {rule: number for rule, number in ALL.items() if rule != "dataset"}


def test_any_path_is_a_target(by_dvc):
    metrics = f"{ZSKD.replace('n=40', 'n=60')}/{STUDENT}/metrics.json"
    assert by_dvc.jobs(metrics) == {"synthesize": 1, "balance": 1, "distill": 1, "evaluate": 1}


def test_a_file_outside_that_changes_is_seen_by_dvc(fresh, tmp_path):
    """No stage can name it: which one it is stands in params/."""
    copy = fresh.again(tmp_path / "copy")
    copy.edit("params/experiment.yaml", DATASET.split("/")[1], "own")
    (copy.folder / "params/dataset/own.yaml").write_text("# Images of mine.\nsource: npz\npath: images.npz\n")
    dataset = copy.folder / "results/own/dataset.h5"

    def made_of(value: int) -> list[str]:
        """The stages that run where all images have this value."""
        images, labels = np.full((20, 28, 28), value, np.uint8), np.arange(20) % 10
        np.savez(copy.folder / "images.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
        ran = re.findall("Running stage '(.*)'", copy.dvc("repro", "dataset@own"))
        assert (dataset_file.open_dataset(dataset).arrays["x_train"] == value).all()
        return ran

    assert made_of(7) == ["resolve", "dataset@own"]
    assert made_of(9) == ["resolve", "dataset@own"]


def test_without_git(by_dvc, tmp_path):
    """A folder that was unpacked and not cloned: Snakemake needs no git, and DVC one setting."""
    copy = by_dvc.again(tmp_path / "copy")
    shutil.rmtree(copy.folder / ".git")
    assert copy.jobs() == {}
    assert "not a git repository" in copy.dvc("status", fails=True)
    copy.dvc("config", "--local", "core.no_scm", "true")
    assert copy.status() == set()


def test_dvc_shows_metrics_and_plots(by_dvc, tmp_path):
    shown = by_dvc.dvc("metrics", "show", "--md")
    assert "top1" in shown.splitlines()[0]
    assert f"{ZSKD}/{STUDENT}/metrics.json" in shown
    assert '"runs": 2' in (by_dvc.folder / "report/summary.json").read_text()
    assert "report/summary.json" in shown
    by_dvc.dvc("plots", "show", "-o", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text()
    assert f"{TEACHER}/history.csv" in page
    assert f"{ZSKD}/{STUDENT}/history.csv" in page
