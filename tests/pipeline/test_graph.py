"""The two graphs: data-free by their arrows, and the same commands. The real tools are asked, and nothing runs."""

import re
import shlex

import pytest
import yaml

from dfkd_steps import resolve
from dfkd_steps.pipeline import sweep

from .conftest import ALL, BASELINE, DATASET, STUDENT, TEACHER, ZSKD

DATA_FREE = ("synthesize", "balance", "distill", "export")
JOBS = {**ALL, "export": 2}


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
def exporting(fresh, tmp_path_factory):
    """The tiny sweep, whose students are exported too."""
    copy = fresh.again(tmp_path_factory.mktemp("graph") / "copy")
    copy.edit("params/experiment.yaml", "export: []", "export: [lenet5-half+epochs=1]")
    return copy


@pytest.fixture(scope="module")
def snakemake_graph(exporting):
    """Nodes "NUMBER rule ..." and edges between them."""
    beside = [f"{ZSKD}/{STUDENT}/export/README.md", f"{ZSKD}/{STUDENT}/history.csv", f"{TEACHER}/history.csv"]
    drawn = exporting.snakemake("--dag", "-F", "all", "version", *beside)  # each is a target
    labels = dict(re.findall(r'(\d+)\[label = "(.*?)"', drawn))
    names = {number: f"{number} {label}" for number, label in labels.items()}
    return list(names.values()), [(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", drawn)]


@pytest.fixture(scope="module")
def dvc_graph(exporting):
    """Stages and edges between them."""
    drawn = exporting.dvc("dag", "--dot")
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
    assert seen == sum(JOBS[step] for step in DATA_FREE)


@pytest.mark.parametrize("target", ["all", "version"])
def test_a_sweep_is_its_metrics_its_exports_and_its_report(snakemake_graph, target):
    _, edges = snakemake_graph
    direct = [re.split(r"\W", before.split()[1])[0] for before, after in edges if after.split()[1:] == [target]]
    assert {rule: direct.count(rule) for rule in set(direct)} == {"evaluate": 2, "export": 2, "report": 1}


def test_dvc_reads_no_data_but_through_the_teacher(dvc_graph):
    stages, edges = dvc_graph
    teachers = [stage for stage in stages if stage.startswith("teacher@")]
    checked = [stage for stage in stages if stage.split("@")[0] in DATA_FREE]
    assert len(checked) == sum(JOBS[step] for step in DATA_FREE)
    for stage in checked:
        assert {one.split("@")[0] for one in ancestors(edges, stage)} >= {"dataset", "teacher"}
        # Not even for the baseline: a matrix cannot, so the key of the data set stands in a file of `resolve`.
        assert not {one for one in ancestors(edges, stage, but=teachers) if one.split("@")[0] in ("dataset", "source")}


def spelled_out(command: str, folder, stage="") -> str:
    """A command without ``python -m dfkd_steps.`` and redirection; @FILE replaced by what is in it, a stage by its job."""
    words = shlex.split(command.removeprefix("python -m dfkd_steps.").split(" > ")[0])
    if words == ["resolve", "$DVC_STAGE"]:
        words = resolve.job_of(stage, sweep.read(folder / sweep.EXPERIMENT))
    return " ".join(" ".join((folder / word[1:]).read_text().split()) if word.startswith("@") else word for word in words).strip()


def test_same_commands(by_dvc, monkeypatch):
    stages = yaml.safe_load((by_dvc.folder / "dvc.lock").read_text())["stages"]
    monkeypatch.chdir(by_dvc.folder)
    dvc = sorted(spelled_out(stage["cmd"], by_dvc.folder, name) for name, stage in stages.items() if name != "resolve")
    planned = by_dvc.snakemake("-n", "-F", "-p", "--config", "export=[lenet5-half+epochs=1]")
    shown = re.findall(r"^Shell command: (python -m dfkd_steps\.\w+ .*)", planned, re.M)
    # Of the exports, which take long, none was made; what its stage in dvc.yaml runs is known.
    exports = [spelled_out(command, by_dvc.folder) for command in shown if "dfkd_steps.export " in command]
    stages = ["-".join([*path.split("/")[1:], *STUDENT.split("/")]) for path in (ZSKD, BASELINE)]
    assert sorted(exports) == sorted(" ".join(resolve.job_of(f"export@{stage}", sweep.read())) for stage in stages)
    shown = [command for command in shown if "dfkd_steps.export " not in command]
    # The list of metrics that Snakemake writes when it starts to run: test_same_bytes compares what was made from it.
    shown = [re.sub("@logs/report/metrics-[0-9a-f]+", "@results/_resolved/metrics", command) for command in shown]
    assert sorted(spelled_out(command, by_dvc.folder) for command in shown) == dvc
    assert len(dvc) == sum(ALL.values())
    assert f"synthesize {ZSKD}/transfer_set.h5 {TEACHER}/teacher.safetensors" in dvc
    assert f"synthesize {BASELINE}/transfer_set.h5 {TEACHER}/teacher.safetensors results/mnist-5k/dataset.h5" in dvc
    student = f"{ZSKD}/{STUDENT}/student.safetensors"
    assert f"evaluate {ZSKD}/{STUDENT}/metrics.json {student} {TEACHER}/teacher.safetensors {DATASET}/dataset.h5" in dvc
