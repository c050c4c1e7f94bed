"""What is asked for: a sweep, and files by their paths. A line for each fault, with place and remedy."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from dfkd_steps import resolve
from dfkd_steps.pipeline import audit, graph, keys, params, spec, sweep
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.storage import verify

SOUND = {"dataset": ["mnist-5k"], "teacher": ["lenet5"], "transfer": ["noise"], "balance": ["none"], "student": ["lenet5-half"]}
LIST = "give a list of specs, each once, like [lenet5]"
SWEEP = (
    "a sweep has the lists dataset, teacher, transfer, balance and student, and may have seeds, shadows, source, export and "
    "shards"
)
SHARDS = "give the number of jobs (1 or more) that make a transfer set together, if its method can be divided"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"teacher": "lenet5"}, f"teacher: 'lenet5' is not of type 'array'; {LIST}"),
        ({"teacher": []}, f"teacher: [] should be non-empty; {LIST}"),
        ({"balance": ["none", "none"]}, f"balance: ['none', 'none'] has non-unique elements; {LIST}"),
        ({"techer": ["lenet5"]}, f"Additional properties are not allowed ('techer' was unexpected); {SWEEP}"),
        ({"shards": 2.0}, f"shards: 2.0 is not of type 'integer'; {SHARDS}"),
        ({"shards": 0}, f"shards: 0 is less than the minimum of 1; {SHARDS}"),
    ],
)
def test_sweep_that_is_none(change, fault, tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**SOUND, **change}))
    with pytest.raises(UserError) as caught:
        sweep.read(path)
    assert str(caught.value) == f"{path}: {fault}"


def test_all_faults_of_a_sweep_at_once(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("teacher: 5\nshards: 1")
    with pytest.raises(UserError) as caught:
        sweep.read(path)
    missing = [f"{path}: {group!r} is a required property; {SWEEP}" for group in sorted(SOUND) if group != "teacher"]
    assert str(caught.value).splitlines() == [*missing, f"{path}: teacher: 5 is not of type 'array'; {LIST}"]


SEEDED = "dataset: [mnist-5k]\nteacher: [lenet5]\ntransfer: [{}]\nseeds: {}\nbalance: [none]\nstudent: [lenet5-half]\n"


def test_seeds_are_those_of_the_transfer_sets(tmp_path, repository, monkeypatch):
    """Seed 0 is the default, so that its spec has none."""
    monkeypatch.chdir(repository)
    path = tmp_path / "sweep.yaml"
    path.write_text(SEEDED.format("noise+n=50, zskd+steps=5+tau=4", "[1, 0]"))
    lists = sweep.read(path)
    assert lists["transfer"] == ["noise+n=50+seed=1", "noise+n=50", "zskd+seed=1+steps=5+tau=4", "zskd+steps=5+tau=4"]
    assert lists["student"] == ["lenet5-half"] and "seeds" not in lists
    assert len(sweep.finals(lists)) == 4
    with pytest.raises(UserError, match="has seeds, which DVC does not expand; run `dfkd sweep "):
        sweep.literal(path)


@pytest.mark.parametrize(
    ("transfer", "seeds", "fault"),
    [
        ("noise+seed=3", "[1]", "transfer 'noise+seed=3' sets a seed"),
        ("noise", "[]", "seeds: [] should be non-empty"),
        ("noise", "[1, 1]", "seeds: [1, 1] has non-unique elements"),
        ("noise", "[-1]", "seeds: 0: -1 is less than the minimum"),
        ("noise", "[x]", "seeds: 0: 'x' is not of type 'integer'; give integers"),
        ("noise", "3", "seeds: 3 is not of type 'array'"),
        ("ssd-kd-lenet5-cpu+diversity=0+gamma=0+lr_s=0.5", "[1]", "has 53 characters"),
    ],
)
def test_faults_of_seeds(transfer, seeds, fault, repository, monkeypatch):
    monkeypatch.chdir(repository)
    content = yaml.safe_load(SEEDED.format(transfer, seeds))
    with pytest.raises(UserError) as caught:
        sweep.check(content, "sweep.yaml")
    assert fault in str(caught.value) and "\n" not in str(caught.value)


def test_exported_is_what_the_list_names_for_every_other_part(repository, monkeypatch):
    monkeypatch.chdir(repository)
    lists = {**SOUND, "balance": ["none", "equal"], "student": ["lenet5-half", "resnet8"], "export": ["resnet8"]}
    sweep.check(lists, "sweep.yaml")
    assert sweep.exports(lists) == [
        f"results/mnist-5k/lenet5/noise/{balance}/resnet8/export.json" for balance in ("none", "equal")
    ]
    assert len(sweep.finals(lists)) == 4 and sweep.exports(SOUND) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"source": ["mnist-5k"]}, "sweep.yaml: source: 'mnist-5k' is also in the list dataset; remove it from source"),
        ({"export": ["resnet8"]}, "sweep.yaml: export: 'resnet8' is not in the list student; add it there"),
    ],
)
def test_lists_that_do_not_go_together(change, fault, repository, monkeypatch):
    monkeypatch.chdir(repository)
    with pytest.raises(UserError) as caught:
        sweep.check({**SOUND, **change}, "sweep.yaml")
    assert str(caught.value) == fault


def test_each_sweep_has_a_folder_for_its_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sweep.report_folder("params/experiment.yaml") == sweep.report_folder("./params/experiment.yaml") == "report"
    assert sweep.report_folder("params/sweeps/tiny.yaml") == sweep.report_folder(f"{tmp_path}/params/sweeps/tiny.yaml")
    assert sweep.report_folder("params/sweeps/tiny.yaml") == "report/tiny"
    others = ["/elsewhere/tiny.yaml", "tiny.yaml", "params/sweeps/tiny.yml", "params/sweeps/mine/tiny.yaml", "experiment.yaml"]
    folders = [sweep.report_folder(other) for other in others]
    assert len({"report", "report/tiny", "report/experiment", *folders}) == 3 + len(others)
    assert all(folder.startswith(("report/tiny-", "report/experiment-")) for folder in folders)


def test_no_mapping(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("[lenet5]")
    with pytest.raises(UserError, match=r"sweep\.yaml: is not a mapping of keys to values"):
        sweep.read(path)


NO_SWEEPS = {
    "text": "hello",
    "empty": "",
    "list": "[lenet5]",
    "given twice": "transfer: [noise]\ntransfer: [zskd]",
    "brackets": "transfer: " + "[" * 3000,
    "long number": "shards: " + "9" * 5000,
    "code": "__use_yte__: true\ntransfer: [?open('RAN', 'w') and 'noise']",
    "tag": "transfer: !!python/object/apply:os.system [touch RAN]",
    "aliases": "a: &a [x, x]\nb: &b [*a, *a]",
    "binary": "\udcff\udcfe",
}


@pytest.mark.parametrize("name", NO_SWEEPS)
def test_sweep_files_that_are_none(name, tmp_path):
    """One way to read them for Snakemake, DVC and `dfkd`: plain YAML, in which nothing runs."""
    path = tmp_path / "sweep.yaml"
    path.write_bytes(NO_SWEEPS[name].encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as caught:
        sweep.read(path)
    assert all(line.startswith(f"{path}: ") and len(line) < 600 for line in str(caught.value).splitlines())


def test_each_path_is_checked_whatever_stands_before_it():
    """A student that the set does not train, behind a spec that there is none of."""
    paths = [f"results/mnist-5k/lenet5/{transfer}/none/{student}/metrics.json" for transfer, student in
             (("nois", "lenet5-half"), ("noise", "lenet5-half-inside"))]  # fmt: skip
    for order in (paths, paths[::-1]):
        with pytest.raises(UserError) as caught:
            sweep.check_paths(order)
        assert "did you mean noise" in str(caught.value) and "trains no student" in str(caught.value)


def test_every_file_of_the_pipeline_is_a_path():
    specs = {group: texts[0] for group, texts in SOUND.items()}
    made = [graph.path_of(step, specs) for step in graph.STEPS]
    beside = [made[1].with_name("history.csv"), made[4].with_name("history.csv"), made[2].parent / ".shards/0-of-2.h5"]
    sweep.check_paths([*made, *beside])


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("results/mnist-5k/teacher.safetensors", "results/mnist-5k/teacher.safetensors: no step makes such a file"),
        ("results/mnist-5k/lenet5/noise/history.csv", "results/mnist-5k/lenet5/noise/history.csv: no step makes such a file"),
        ("results/a/b/c/d/e/f/metrics.json", "results/a/b/c/d/e/f/metrics.json: has 6 specs after results/"),
        ("results/mnist-5k/lenet/history.csv", "teacher: no file params/teacher/lenet.yaml; did you mean lenet5?"),
        ("results/mnist-5k/lenet5/nois/.shards/0-of-2.h5", "transfer: no file params/transfer/nois.yaml; did you mean noise?"),
        ("results/mnist-5k/lenet5/dataset+source=nix/transfer_set.h5", "dataset: no file params/dataset/nix.yaml"),
    ],
)
def test_path_that_is_none(path, fault):
    with pytest.raises(UserError) as caught:
        sweep.check_paths(["results/mnist-5k/dataset.h5", path])
    assert fault in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_stages_of_one_name_are_refused(repository, tmp_path, monkeypatch):
    """DVC joins specs by '-', and of two stages with one name it has the last alone. Snakemake makes both."""
    for group in spec.GROUPS:
        (tmp_path / "params" / group).mkdir(parents=True)
        for name in SOUND[group]:
            shutil.copy(next((repository / "params" / group).rglob(f"{name}.yaml")), tmp_path / "params" / group)
    for group, name, other in (("transfer", "noise", "noise-x"), ("balance", "none", "x-none"), ("dataset", "mnist-5k", "mnist")):
        shutil.copy(tmp_path / "params" / group / f"{name}.yaml", tmp_path / "params" / group / f"{other}.yaml")
    monkeypatch.chdir(tmp_path)
    lists = {**SOUND, "source": [], "export": [], "dataset": ["mnist-5k", "mnist"]}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(lists | {"balance": ["none", "x-none"]}))
    assert sweep.literal(path)["balance"] == ["none", "x-none"]
    path.write_text(yaml.safe_dump(lists | {"balance": ["none", "x-none"], "transfer": ["noise", "noise-x"]}))
    assert len(sweep.finals(sweep.read(path))) == 8
    for read in (sweep.literal, sweep.to_yaml):
        with pytest.raises(UserError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path}: transfer 'noise', balance 'x-none' and transfer 'noise-x', balance 'none' have one name in DVC, "
            "'noise-x-none'; rename one of these files of params/"
        )


@pytest.mark.parametrize(
    ("here", "asked", "fault"),
    [
        ({**SOUND, "source": [], "export": []}, SOUND, None),
        (SOUND, SOUND, "params/experiment.yaml: has no list source, which DVC needs; add the line 'source: []'"),
        (
            {**SOUND, "source": []},
            SOUND,
            "params/experiment.yaml: has no list export, which DVC needs; add the line 'export: []'",
        ),
        (
            {**SOUND, "source": [], "export": []},
            {**SOUND, "balance": ["equal"]},
            "version: DVC versions the sweep of params/experiment.yaml",
        ),
        ({**SOUND, "balance": "none"}, SOUND, "balance: 'none' is not of type 'array'"),
    ],
)
def test_only_the_sweep_that_dvc_reads_is_versioned(here, asked, fault, repository, tmp_path, monkeypatch):
    (tmp_path / "params").mkdir()
    (tmp_path / "params/experiment.yaml").write_text(yaml.safe_dump(here))
    for group in spec.GROUPS:
        (tmp_path / "params" / group).symlink_to(repository / "params" / group)
    monkeypatch.chdir(tmp_path)
    if fault is None:
        sweep.check_versioned(asked)
    else:
        with pytest.raises(UserError, match=re.escape(fault)):
            sweep.check_versioned(asked)


# ------------------------------------------------------------------------------------------- what DVC may delete
@pytest.fixture
def network(tmp_path, monkeypatch):
    """A teacher and its history, as DVC finds them; in the working folder."""
    monkeypatch.chdir(tmp_path)
    path = Path("results/mnist-5k/lenet5/teacher.safetensors")
    path.parent.mkdir(parents=True)
    path.write_text("weights")
    path.with_name("history.csv").write_text("epoch")
    return path


def names(path):
    return sorted(os.listdir(path.parent))


LINKS = [".teacher.safetensors.kept.history.csv", ".teacher.safetensors.kept.teacher.safetensors"]


def test_what_is_current_has_a_second_name_and_what_is_stale_has_none(network):
    both = ["history.csv", "teacher.safetensors"]
    resolve.keep([str(network), "results/gone/dataset.h5"], {})
    assert names(network) == [*LINKS, *both]
    assert all(link.samefile(path) for path, link in resolve.links_of(network).items())
    network.unlink()
    network.write_text("other weights")
    resolve.keep([str(network)], {})
    assert all(link.samefile(path) for path, link in resolve.links_of(network).items())
    resolve.keep([str(network)], {str(network): "is stale"})
    assert names(network) == both


@pytest.mark.parametrize(("fault", "problems"), [(None, []), ("of another config", []), (None, ["is damaged"])])
def test_what_was_deleted_comes_back_if_it_is_current_and_whole(network, fault, problems, monkeypatch, capsys):
    resolve.keep([str(network)], {})
    for path in resolve.links_of(network):
        path.unlink()
    monkeypatch.setattr(audit, "fault", lambda path: fault)
    monkeypatch.setattr(verify, "verify", lambda path: problems)
    link, order = os.link, []
    monkeypatch.setattr(os, "link", lambda source, path: order.append(Path(path).name) or link(source, path))
    resolve.restore(network)
    assert order == ["history.csv", "teacher.safetensors"]  # where the network is, its history is there
    sound = fault is None and not problems
    assert names(network) == (["history.csv", "teacher.safetensors"] if sound else [])
    assert capsys.readouterr().out == (f"{network}: is current; DVC takes it over\n" if sound else "")


def test_what_was_not_deleted_stays_as_it_is(network):
    resolve.keep([str(network)], {})
    network.unlink()
    network.write_text("newer")
    resolve.restore(network)
    assert network.read_text() == "newer" and names(network) == ["history.csv", "teacher.safetensors"]


STUDENT = "results/mnist-5k/lenet5/noise/none/lenet5-half/student.safetensors"
STAGE = "distill@mnist-5k-lenet5-noise-none-lenet5-half"


@pytest.fixture
def resolved(repository, tmp_path, monkeypatch):
    """The folder of a sweep whose files of results/_resolved are as params/ has it, with the artefact that DVC has deleted under
    its hidden name; the step writes ``made`` into it."""
    for group in spec.GROUPS:
        shutil.copytree(repository / "params" / group, tmp_path / "params" / group)
    monkeypatch.chdir(tmp_path)
    Path("params/experiment.yaml").write_text(yaml.safe_dump({**SOUND, "source": [], "export": []}))
    forget()
    resolve.write()
    out = Path(STUDENT)
    out.parent.mkdir(parents=True)

    def step(name, **options):
        out.write_text("made")
        out.with_name("history.csv").write_text("epoch")

    monkeypatch.setattr(resolve.runpy, "run_module", step)
    monkeypatch.setattr(resolve, "restore", lambda path: None)
    yield out
    forget()


def repro(monkeypatch) -> int:
    """The exit code of the stage, as DVC starts it."""
    monkeypatch.setattr(resolve.sys, "argv", ["resolve", STAGE])
    return resolve.main()


def forget():
    """As a new process begins: with nothing read of params/."""
    for function in (params._layers, params._load, keys._recipe, keys.expected_key):
        function.cache_clear()


def edit(text):
    """Another lr, or whatever text, in the preset of the student."""
    path = next(Path("params/student").rglob("lenet5-half.yaml"))
    path.write_text(path.read_text() + text)


def test_a_stage_refuses_a_preset_that_was_edited_after_resolve(resolved, monkeypatch, capsys):
    """DVC would record the student as made by the config that stands in results/_resolved."""
    edit("# A comment.\n")
    forget()
    assert repro(monkeypatch) == 0 and resolved.read_text() == "made"
    resolved.unlink()
    edit("clip: 0.25\n")
    forget()
    assert repro(monkeypatch) == 2 and not resolved.exists()
    assert capsys.readouterr().err == (
        f"error: {resolved}: params/ or code was edited while dvc repro ran (results/_resolved/distill/lenet5-half.json is of "
        "before); run dvc repro again\n"
    )


def test_a_step_goes_by_what_was_compared_with_what_dvc_records(resolved, monkeypatch):
    """An edit while the step runs counts for the next one."""

    def step(name, **options):
        edit("clip: 0.25\n")
        resolved.write_text(str(params.load("student", "lenet5-half").clip))

    before = params.load("student", "lenet5-half").clip
    monkeypatch.setattr(resolve.runpy, "run_module", step)
    assert repro(monkeypatch) == 0 and resolved.read_text() == str(before) != "0.25"


def test_a_resolve_that_writes_meanwhile_leaves_dvc_no_output(resolved, monkeypatch, capsys):
    step = resolve.runpy.run_module

    def run_module(name, **options):
        step(name)
        path = Path("results/_resolved/distill/lenet5-half.json")
        path.write_text(path.read_text().replace('"clip": ', '"clip": 1'))

    monkeypatch.setattr(resolve.runpy, "run_module", run_module)
    assert repro(monkeypatch) == 2 and "run dvc repro again" in capsys.readouterr().err
    assert names(resolved) == [".student.safetensors.kept.history.csv", ".student.safetensors.kept.student.safetensors"]


def test_what_is_stale_is_named_where_dvc_may_not_know_it(resolved, monkeypatch, capsys):
    monkeypatch.setattr(audit, "stale", lambda paths: {})
    resolve.write()
    assert not capsys.readouterr().err
    monkeypatch.setattr(audit, "stale", lambda paths: {STUDENT: "is stale"})
    resolve.write()
    said = capsys.readouterr().err
    assert said.startswith("1 files were made with a different config") and "dvc repro --force STAGE" in said


def test_exports_are_kept_and_files_that_are_gone_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old, calls = Path("results/_resolved/teacher/old.json"), []
    old.parent.mkdir(parents=True)
    old.touch()
    experiment = {**SOUND, "export": SOUND["student"]}
    monkeypatch.setattr(resolve, "literal", lambda: experiment)
    monkeypatch.setattr(resolve, "files", lambda lists: [("report.json", "{}\n")])
    monkeypatch.setattr(audit, "lineage", lambda targets: calls.append(targets) or targets)
    monkeypatch.setattr(audit, "stale", lambda paths: {})
    monkeypatch.setattr(audit, "to_make", lambda targets, stale: targets)
    monkeypatch.setattr(audit, "refuse_gone", lambda todo: calls.append((todo, old.exists())))
    monkeypatch.setattr(resolve, "keep", lambda paths, stale: calls.append(paths))
    resolve.write()
    targets = [*sweep.finals(experiment), *sweep.exports(experiment)]
    assert len(targets) == 2 and calls == [targets, (targets, True), targets]
    assert [str(path) for path in Path("results").rglob("*.json")] == ["results/_resolved/report.json"]
