"""The two graphs: data-free by their arrows, and the same commands. The real tools are asked, and nothing runs."""

import re

import pytest

from .conftest import ALL, BASELINE, DATASET, STUDENT, TEACHER, ZSKD

DATA_FREE = ("synthesize", "balance", "distill")


def ancestors(edges, job, but=()) -> set[str]:
    """Jobs that ``job`` depends on, not through those in ``but``."""
    found, todo = set(), [job]
    while todo:
        after = todo.pop()
        new = {before for before, other in edges if other == after} - found - set(but)
        found |= new
        todo += new
    return found


@pytest.fixture(scope="module")
def snakemake_graph(fresh):
    """Nodes "NUMBER rule ..." and edges between them."""
    drawn = fresh.snakemake("--dag", "-F")
    labels = dict(re.findall(r'(\d+)\[label = "(.*?)"', drawn))
    names = {number: f"{number} {label}" for number, label in labels.items()}
    return list(names.values()), [(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", drawn)]


@pytest.fixture(scope="module")
def dvc_graph(fresh):
    """Stages and edges between them."""
    drawn = fresh.dvc("dag", "--dot")
    return re.findall(r'^"(\S+)";$', drawn, re.M), re.findall(r'^"(\S+)" -> "(\S+)";$', drawn, re.M)


def test_snakemake_reads_no_data_but_through_the_teacher(snakemake_graph):
    jobs, edges = snakemake_graph
    teachers = [job for job in jobs if job.split()[1].startswith("teacher")]
    seen = 0
    for job in jobs:
        if not job.split()[1].startswith(DATA_FREE):
            continue
        direct = {one for one in ancestors(edges, job, but=teachers) if one.split()[1].startswith("dataset")}
        baseline = any("source=" in one for one in {job} | ancestors(edges, job))
        # The baseline reads the data set that its spec names, and not that of the task (which here is another).
        assert [one.split(": ")[1] for one in direct] == (["mnist-5k"] if baseline else []), job
        seen += 1
    assert seen == sum(ALL[step] for step in DATA_FREE)


def test_dvc_reads_no_data_but_through_the_teacher(dvc_graph):
    stages, edges = dvc_graph
    teachers = [stage for stage in stages if stage.startswith("teacher@")]
    checked = [stage for stage in stages if stage.split("@")[0] in DATA_FREE]
    assert len(checked) == sum(ALL[step] for step in DATA_FREE)
    for stage in checked:
        assert {one.split("@")[0] for one in ancestors(edges, stage)} >= {"dataset", "teacher"}
        # Not even for the baseline: a matrix cannot, so the key of the data set stands in a file of `resolve`.
        assert not {one for one in ancestors(edges, stage, but=teachers) if one.split("@")[0] in ("dataset", "source")}


def commands(text: str, folder) -> set[str]:
    """The commands ``python -m dfkd_steps.<step> ...`` in a text, without redirection; @FILE replaced by what is in it."""
    found = set()
    for line in re.findall(r"python -m (dfkd_steps\..*)", text):
        if line.startswith(("dfkd_steps.resolve", "dfkd_steps.audit")):
            continue
        words = []
        for word in line.split(" > ")[0].split():
            words += (folder / word[1:]).read_text().split() if word.startswith("@") else [word]
        found.add(" ".join(words))
    return found


def test_same_commands(fresh):
    fresh.dvc("repro", "-q", "resolve")
    by_snakemake = commands(fresh.snakemake("-n", "-F", "-p"), fresh.folder)
    by_dvc = commands(fresh.dvc("repro", "--dry"), fresh.folder)
    assert by_snakemake == by_dvc
    assert len(by_dvc) == sum(ALL.values())
    assert f"dfkd_steps.synthesize {ZSKD}/transfer_set.h5 {TEACHER}/teacher.safetensors" in by_dvc
    sources = f"{TEACHER}/teacher.safetensors results/mnist-5k/dataset.h5"
    assert f"dfkd_steps.synthesize {BASELINE}/transfer_set.h5 {sources}" in by_dvc
    student = f"{ZSKD}/{STUDENT}/student.safetensors"
    assert (
        f"dfkd_steps.evaluate {ZSKD}/{STUDENT}/metrics.json {student} {TEACHER}/teacher.safetensors {DATASET}/dataset.h5"
        in by_dvc
    )
