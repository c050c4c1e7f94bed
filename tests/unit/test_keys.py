"""Keys cover what a config names outside the package; provenance and the audit say what an artefact was made from."""

import dataclasses
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import programs
import pytest
import torch
from safetensors.torch import save as save_bytes

from dfkd_steps.models import names as network_names
from dfkd_steps.models.classifier import build_architecture
from dfkd_steps.pipeline import audit, external, fingerprint, graph, keys, params, recorded, remembered, spec
from dfkd_steps.pipeline.job import parse_job
from dfkd_steps.runtime.errors import Changed, UserError
from dfkd_steps.schemas import fields as schema_fields
from dfkd_steps.schemas import groups, student_losses
from dfkd_steps.storage import atomic, network_metadata

ROOT = fingerprint.HERE.parent
TEACHER = "results/mine/mine/teacher.safetensors"
DATASET = "results/mine/dataset.h5"
SPECS = {"dataset": {"dataset": "mine"}, "teacher": {"teacher": "mine"}}


def forget():
    """What a new process would not know: configs, recipes, keys, and hashes that are not written down."""
    for cached in (params._load, params._layers, keys._recipe, keys.expected_key, remembered.entries):
        cached.cache_clear()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder with a cache folder of its own; files count as old at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(external, "RACY_NS", -(10**18))
    for name in ("dataset", "teacher"):
        (tmp_path / "params" / name).mkdir(parents=True)
    forget()
    yield tmp_path
    forget()


def config(group, content):
    Path(f"params/{group}/mine.yaml").write_text(content)


def key(step) -> str:
    forget()
    return keys.key_from(keys.recipe(step, SPECS[step]), [])


# ------------------------------------------------------------------------------------------------ kinds of files
def arrays(value):
    images = np.full((4, 8, 8), value, np.uint8)
    return {"x_train": images, "y_train": np.arange(4) % 2, "x_test": images, "y_test": np.arange(4) % 2}


def checkpoint(value):
    config("teacher", "kind: import\narch: lenet5\ncheckpoint: data/mine.pth\n")
    Path("data").mkdir(exist_ok=True)
    torch.save({"w": torch.full((3,), float(value))}, "data/mine.pth")
    return "teacher", "data/mine.pth"


def npz(value):
    config("dataset", "source: npz\npath: data/mine.npz\n")
    Path("data").mkdir(exist_ok=True)
    np.savez("data/mine.npz", **arrays(value))
    return "dataset", "data/mine.npz"


def idx(value):
    config("dataset", "source: idx\npath: data\n")
    Path("data").mkdir(exist_ok=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        Path("data", name).write_bytes(bytes([value]) * 20)
    return "dataset", "data/t10k-labels-idx1-ubyte"


def folder(value):
    config("dataset", "source: images\npath: data\n")
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        Path("data", name).parent.mkdir(parents=True, exist_ok=True)
        Path("data", name).write_bytes(bytes([value]) * 20)
    return "dataset", "data/b/3.png"


def factory(value):
    config("teacher", "kind: import\nfactory: mynets.wide:make\ncheckpoint: data/mine.pth\n")
    checkpoint_of_factory = Path("data/mine.pth")
    checkpoint_of_factory.parent.mkdir(exist_ok=True)
    checkpoint_of_factory.write_bytes(b"weights")
    Path("mynets").mkdir(exist_ok=True)
    Path("mynets/__init__.py").write_text("")
    Path("mynets/wide.py").write_text("from . import parts\nimport other, os\n\ndef make(num_classes):\n    return parts.net()\n")
    Path("mynets/parts.py").write_text(f"WIDTH = {value}\n")
    Path("other.py").write_text("X = 1\n")
    return "teacher", "mynets/parts.py"


KINDS = [checkpoint, npz, idx, folder, factory]


@pytest.mark.parametrize("kind", KINDS)
def test_content_counts_and_times_do_not(here, kind):
    step, path = kind(1)
    before = key(step)
    os.utime(path, ns=(10**18, 10**18))
    assert key(step) == before
    kind(2)
    assert key(step) != before
    kind(1)
    assert key(step) == before
    Path(path).unlink()
    assert key(step) != before


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_the_same_size_and_time_is_another(here, kind):
    step, path = kind(1)
    os.utime(path, ns=(10**18, 10**18))
    before = key(step)
    kind(2)
    os.utime(path, ns=(10**18, 10**18))
    assert key(step) != before


def test_a_label_is_the_folder_of_an_image(here):
    folder(1)
    before = key("dataset")
    Path("data/a/2.png").rename("data/b/2.png")
    assert key("dataset") != before


def test_what_file_managers_leave_behind_counts_for_nothing(here):
    folder(1)
    before = key("dataset")
    Path("data/a/.DS_Store").write_bytes(b"icons")
    assert key("dataset") == before


def test_idx_files_alone_count_and_packed_ones_too(here):
    idx(1)
    before = key("dataset")
    Path("data/notes.txt").write_text("a note")
    assert key("dataset") == before
    Path("data/t10k-labels-idx1-ubyte").unlink()
    Path("data/t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"1"))
    assert key("dataset") != before


def test_the_modules_of_a_factory(here):
    factory(1)
    assert set(keys.recipe("teacher", SPECS["teacher"])["files"]) == {
        "data/mine.pth", "mynets/__init__.py", "mynets/parts.py", "mynets/wide.py", "other.py",
    }  # fmt: skip
    before = key("teacher")
    Path("unrelated.py").write_text("Y = 1\n")
    assert key("teacher") == before
    Path("other.py").write_text("X = 2\n")
    assert key("teacher") != before


def test_the_factory_of_an_installed_package(here):
    files = external.paths_of("factory", "json.decoder:JSONDecoder")
    assert set(files) == {"json/__init__.py", "json/decoder.py", "json/encoder.py", "json/scanner.py"}
    assert all(path.is_absolute() and path.is_file() for path in files.values())
    assert external.paths_of("factory", "nowhere.at_all:f") == {"nowhere/at_all.py": Path("nowhere/at_all.py")}
    (here / "broken.py").write_text("def (")
    assert external.paths_of("factory", "broken:f") == {"broken.py": Path("broken.py")}


def test_a_factory_is_looked_for_where_python_imports_it(here, monkeypatch):
    """A folder without __init__.py is a package too, in several places at once, but goes behind one that has the file."""
    for place in ("lib/rbspread", "lib/rbwhole", "more/rbspread", "rbspread", "rbwhole"):
        (here / place).mkdir(parents=True)
    (here / "more/rbspread/nets.py").write_text("X = 1\n")
    (here / "lib/rbwhole/__init__.py").write_text("Y = 1\n")
    monkeypatch.syspath_prepend(here / "more")
    monkeypatch.syspath_prepend(here / "lib")
    assert external.paths_of("factory", "rbspread.nets:f") == {"rbspread/nets.py": here / "more/rbspread/nets.py"}
    assert external.paths_of("factory", "rbwhole:f") == {"rbwhole/__init__.py": here / "lib/rbwhole/__init__.py"}
    (here / "rbspread/nets.py").write_text("X = 2\n")
    assert external.paths_of("factory", "rbspread.nets:f") == {"rbspread/nets.py": Path("rbspread/nets.py")}


def test_the_folder_that_a_package_is_installed_in_counts_for_nothing(here, monkeypatch):
    config("teacher", "kind: import\nfactory: rbmynets.wide:make\ncheckpoint: data/mine.pth\n")
    by_folder = []
    for folder, width in (("v1", 1), ("v2", 1), ("v3", 2)):
        (here / folder / "rbmynets").mkdir(parents=True)
        (here / folder / "rbmynets/__init__.py").write_text("")
        (here / folder / "rbmynets/wide.py").write_text(f"WIDTH = {width}\n")
        with monkeypatch.context() as context:
            context.syspath_prepend(here / folder)
            by_folder.append(key("teacher"))
    assert by_folder[0] == by_folder[1] != by_folder[2]


def test_data_sets_that_are_pinned_elsewhere_have_no_files(here):
    config("dataset", "source: torchvision\nname: MNIST\n")
    assert keys.recipe("dataset", SPECS["dataset"])["files"] == {}


def test_a_checkpoint_that_is_gone_counts_as_the_one_that_the_config_pins(here):
    checkpoint(1)
    found = keys.recipe("teacher", SPECS["teacher"])["files"]["data/mine.pth"]
    config("teacher", f"kind: import\narch: lenet5\ncheckpoint: data/mine.pth\nsha256: {found.upper()}\n")
    before = key("teacher")
    Path("data/mine.pth").unlink()
    assert key("teacher") == before
    config("teacher", "kind: import\narch: lenet5\ncheckpoint: data/mine.pth\n")
    forget()
    assert keys.recipe("teacher", SPECS["teacher"])["files"]["data/mine.pth"] == external.MISSING


def test_a_checkpoint_that_is_there_counts_whatever_the_config_pins(here):
    checkpoint(1)
    config("teacher", f"kind: import\narch: lenet5\ncheckpoint: data/mine.pth\nsha256: {'ab' * 32}\n")
    assert keys.recipe("teacher", SPECS["teacher"])["files"] == {"data/mine.pth": external.digest(Path("data/mine.pth"))}


def test_a_pipe_is_not_waited_for(here):
    os.mkfifo("pipe")
    assert external.digest(Path("pipe")) == external.MISSING


# ------------------------------------------------------------------------------------------------ memory
def count_hashes(monkeypatch) -> list:
    hashed, plain = [], external.disk.sha256_of
    monkeypatch.setattr(external.disk, "sha256_of", lambda path: hashed.append(str(path)) or plain(path))
    return hashed


def test_a_file_is_hashed_once(here, monkeypatch):
    hashed = count_hashes(monkeypatch)
    step, path = npz(1)
    first = key(step)
    assert (key(step), hashed) == (first, [path])
    os.utime(path, ns=(1, 1))
    assert (key(step), hashed) == (first, [path, path])


def test_a_file_that_has_just_been_written_is_hashed_again(here, monkeypatch):
    monkeypatch.setattr(external, "RACY_NS", 2_000_000_000)
    hashed = count_hashes(monkeypatch)
    step, path = npz(1)
    assert key(step) == key(step) and hashed == [path, path]
    assert not remembered.path_of("hashes").exists()


def memory_is(content):
    def make(here):
        path = remembered.path_of("hashes")
        path.parent.mkdir(parents=True)
        path.write_text(content)

    return make


@pytest.mark.parametrize(
    "make",
    [memory_is("{"), memory_is("[]"), memory_is('{"a": 3}'), lambda here: (here / "cache").write_text("a file, no folder")],
)
def test_a_memory_that_cannot_be_used_is_done_without(here, make):
    make(here)
    step, _ = npz(1)
    first = key(step)
    npz(2)
    assert key(step) != first


def test_asking_for_a_key_writes_nothing_in_the_working_folder(here, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    step, _ = npz(1)
    before = sorted(map(str, here.rglob("*")))
    key(step)
    assert sorted(map(str, here.rglob("*"))) == before


# ------------------------------------------------------------------------------------------------ provenance
def run(step, *arguments, environment=None, cwd=None):
    """Run a step as a process; returns its exit code and what it says."""
    command = [sys.executable, "-m", f"dfkd_steps.{step}", *map(str, arguments)]
    found = {**os.environ, "PYTHONPATH": str(ROOT), "DFKD_DEVICE": "cpu", **(environment or {})}
    return programs.run(command, cwd or Path.cwd(), found)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with a data set from an .npz file and a teacher from a checkpoint and a factory, made; not to be changed."""
    folder = tmp_path_factory.mktemp("original")
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    labels = np.arange(20) % 10
    for name in ("data", "params/dataset", "params/teacher"):
        (folder / name).mkdir(parents=True)
    np.savez(folder / "data/mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    torch.save(build_architecture("lenet5", 10, (1, 28, 28)).state_dict(), folder / "data/mine.pth")
    (folder / "mynets.py").write_text(
        "from dfkd_steps.models.classifier import build_architecture\n\n"
        "def make(num_classes):\n    return build_architecture('lenet5', num_classes, (1, 28, 28))\n"
    )
    (folder / "params/dataset/mine.yaml").write_text("source: npz\npath: data/mine.npz\n")
    (folder / "params/teacher/mine.yaml").write_text("kind: import\nfactory: mynets:make\ncheckpoint: data/mine.pth\n")
    for arguments in (("dataset", DATASET), ("teacher", TEACHER, DATASET)):
        code, said = run(*arguments, cwd=folder)
        assert code == 0, said
    return folder


@pytest.fixture
def imported(here, original):
    """A copy of ``original`` as working folder."""
    shutil.copytree(original, here, dirs_exist_ok=True)
    return here


def audited(capsys, *arguments) -> list[str]:
    forget()
    audit.main([*arguments, "results"])
    return capsys.readouterr().out.splitlines()


def test_the_audit_says_what_differs(imported, capsys):
    stale = "was made with a different config, code or input"
    assert audited(capsys, "-v") == []
    files = {
        path: Path(path).read_bytes() for path in ("data/mine.pth", "data/mine.npz", "mynets.py", "params/teacher/mine.yaml")
    }

    def edited(path, content=None):
        Path(path).write_bytes(files[path] + b"\n" if content is None else content)
        lines = audited(capsys, "-v")
        Path(path).write_bytes(files[path])
        return lines

    assert edited("data/mine.pth") == [f"{TEACHER}: {stale}; make it again", "  file: data/mine.pth has changed"]
    assert edited("mynets.py") == [f"{TEACHER}: {stale}; make it again", "  file: mynets.py has changed"]
    lines = edited("data/mine.npz")
    assert lines[:3] == [
        f"{DATASET}: {stale}; make it again", "  file: data/mine.npz has changed", f"{TEACHER}: {stale}; make it again",
    ]  # fmt: skip
    assert lines[3].startswith("  input: mine/dataset.h5 differs (key ") and len(lines) == 4
    lines = edited("params/teacher/mine.yaml", files["params/teacher/mine.yaml"] + b"mean: [0.5]\nstd: [0.25]\n")
    assert lines[1:] == ["  config: mean: [] -> [0.5]", "  config: std: [] -> [0.25]"]
    assert audited(capsys) == []
    Path("data/mine.pth").unlink()
    config("teacher", Path("params/teacher/mine.yaml").read_text() + "mean: [0.5]\nstd: [0.25]\n")
    lines = audited(capsys, "-v")
    assert (
        lines[0] == f"{TEACHER}: {stale}; data/mine.pth is missing; make it again"
        and lines[-1] == "  file: data/mine.pth is missing"
    )


@pytest.mark.parametrize("part", recorded.PARTS)
@pytest.mark.parametrize("value", [None, 5, "x", [1]])
def test_the_audit_ends_whatever_an_artefact_says_of_itself(here, capsys, part, value):
    """Where the checksum fits: what its making differs in is then left out."""
    place = Path("results/mine/mine/noise/none/mine/metrics.json")
    place.parent.mkdir(parents=True)
    for group in ("transfer", "balance", "student"):
        Path(f"params/{group}").mkdir()
    config("dataset", "source: mnist-5k\n")
    config("teacher", "kind: train\narch: lenet5\n")
    config("student", "arch: lenet5-half\n")
    Path("params/transfer/noise.yaml").write_text("method: noise\n")
    Path("params/balance/none.yaml").write_text("mode: none\n")
    atomic.write_json(place, {"key": "k", "provenance": [{part: value}]})
    assert audited(capsys, "-v") == [f"{place}: was made with a different config, code or input; make it again"]
    with pytest.raises(UserError, match=f"{place}: is damaged .*{part} is no mapping"):
        recorded.provenance(place)


def test_files_that_are_gone_are_those_that_artefacts_name(imported, capsys):
    """A colleague gets the artefacts and not the checkpoint; data are cleared away when they have been read."""
    names = ("data/mine.pth", "data/mine.npz", "mynets.py")
    before = {step: keys.recipe(step, SPECS[step]) for step in ("dataset", "teacher")}
    for name in names:
        Path(name).rename(f"{name}.away")
    assert audited(capsys, "-v") == []
    assert {step: keys.recipe(step, SPECS[step]) for step in before} == before  # by which DVC goes
    Path("data/mine.pth").write_bytes(b"other weights")
    assert audited(capsys)[0].startswith(f"{TEACHER}: was made with a different config")
    Path("data/mine.pth").unlink()
    for path in (TEACHER, DATASET):  # without them nobody knows
        Path(path).rename(f"{path}.away")
    forget()
    assert external.MISSING in keys.recipe("teacher", SPECS["teacher"])["files"].values()


def test_what_artefacts_say_counts_if_they_agree(imported):
    Path("data/mine.pth").unlink()
    other = Path(TEACHER.replace("/mine/mine/", "/other/mine/"))
    other.parent.mkdir(parents=True)
    content = network_metadata.read_metadata(TEACHER)
    content["provenance"]["files"]["data/mine.pth"] = "0" * 64
    other.write_bytes(save_bytes({}, {network_metadata.METADATA: json.dumps(content)}))
    forget()
    assert keys.recipe("teacher", SPECS["teacher"])["files"]["data/mine.pth"] == external.MISSING
    assert keys.recipe("teacher", SPECS["teacher"], TEACHER)["files"]["data/mine.pth"] not in ("0" * 64, external.MISSING)


def test_what_would_be_made_from_a_file_that_is_gone_is_refused(imported):
    audit.refuse_gone([DATASET, TEACHER])
    Path("data/mine.pth").unlink()
    audit.refuse_gone([DATASET])
    with pytest.raises(UserError, match=rf"^data/mine\.pth: does not exist, but {TEACHER} is to be made from it; put it back"):
        audit.refuse_gone([TEACHER, DATASET])


def test_the_audit_names_the_module(imported, capsys, monkeypatch):
    plain = fingerprint.hashes
    monkeypatch.setattr(fingerprint, "hashes", lambda *roots: {**plain(*roots), "models.pretrained": "0", "models.new": "1"})
    lines = audited(capsys, "-v", TEACHER)
    assert "  code: models/pretrained.py changed" in lines and "  code: models/new.py is used now" in lines


def test_the_audit_needs_no_torch(imported):
    program = (
        "import sys\nfrom dfkd_steps.pipeline import audit\n"
        "code = audit.main(['-v', 'results'])\nassert code == 0 and 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_step_whose_file_is_missing_says_so(imported):
    Path("data/mine.pth").unlink()
    Path(TEACHER).unlink()
    code, said = run("teacher", TEACHER, DATASET)
    assert code == 2 and "data/mine.pth: no such checkpoint" in said and len(said.splitlines()) == 1


def test_a_file_that_is_changed_while_it_is_read(imported):
    made = parse_job("teacher", [TEACHER, DATASET])
    assert made.provenance("cpu")["files"] == made.recipe["files"]
    Path("data/mine.pth").write_bytes(b"other weights")
    with pytest.raises(UserError, match=r"data/mine\.pth: was changed while it was read; run the step again"):
        made.provenance("cpu")


def half_made(job):
    """What a step does that has worked for a while and now wants to store its result."""
    with atomic.exclusive(job.out, job.key) as partial:
        partial.write_bytes(b"half a network")
        job.provenance("cpu")


def test_an_input_that_is_changed_under_way_and_changed_back(imported):
    """While the step waited for its lock, say: then what it has made so far is worth nothing."""
    Path(TEACHER).unlink()
    made, content = parse_job("teacher", [TEACHER, DATASET]), Path(DATASET).read_bytes()
    os.link(DATASET, "backup")  # which changes nothing
    made.provenance("cpu")
    Path(DATASET).write_bytes(bytes(len(content)))
    Path(DATASET).write_bytes(content)
    with pytest.raises(Changed, match=r"dataset\.h5: was changed while it was read; run the step again"):
        half_made(made)
    partial = atomic.partial_of(made.out)
    assert not partial.exists()


def test_an_input_that_is_replaced_under_way(imported):
    """By itself, as ``dvc checkout`` does: then no work is lost. By another: then it is."""
    Path(TEACHER).unlink()
    made = parse_job("teacher", [TEACHER, DATASET])
    os.rename(DATASET, "old")
    shutil.copy("old", DATASET)
    made.provenance("cpu")
    content = bytearray(Path("old").read_bytes())
    content[-1] ^= 1  # of the checksum at its end
    os.remove(DATASET)
    Path(DATASET).write_bytes(content)
    with pytest.raises(Changed, match=r"dataset\.h5: was changed while it was read"):
        half_made(made)
    assert not atomic.partial_of(made.out).exists()
    os.remove(DATASET)
    with pytest.raises(Changed):
        made.provenance("cpu")


def test_threads_are_in_the_provenance_and_not_in_the_key(imported):
    def made(threads):
        Path(DATASET).unlink()
        assert run("dataset", DATASET, environment={"DFKD_THREADS": threads})[0] == 0
        return recorded.provenance(DATASET), atomic.key_of(DATASET), Path(DATASET).read_bytes()

    (one, key_one, bytes_one), (two, key_two, bytes_two) = made("1"), made("2")
    assert (one["threads"], two["threads"]) == (1, 2) and {**one, "threads": 2} == two
    assert key_one == key_two and bytes_one != bytes_two
    assert one["device"] == "cpu" and one["compile"] is False
    assert {"torch", "pillow", "pytorch-optimizer"} < set(one["versions"]) and "timm" not in one["versions"]
    assert one["files"] == keys.recipe("dataset", SPECS["dataset"])["files"] and one["code"]["dataset"]
    json.dumps(one)


def test_a_folder_with_a_name_that_is_no_text_has_a_digest(tmp_path):
    """So that the step which reads it can say which name that is."""
    for name in (b"a\xff", b"b"):
        os.makedirs(os.path.join(os.fsencode(tmp_path), b"images", name))
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"images", name, b"x"))).write_bytes(b"x")
    assert len(external.digest(tmp_path / "images")) == 64


def test_the_key_is_that_of_the_recipe():
    recipe = {"code": {"a": "1"}, "chosen": {}, "config": {"n": 1}, "files": {"f": "2"}}
    before = keys.key_from(recipe, ["k"])
    assert len(before) == 20 and keys.key_from(json.loads(json.dumps(recipe)), ["k"]) == before
    assert keys.key_from(recipe, ["k", "l"]) != keys.key_from(recipe, ["l", "k"])  # a student is no teacher
    others = [{**recipe, part: {"other": 1}} for part in recipe]
    assert len({before, keys.key_from(recipe, ["l"]), *(keys.key_from(one, ["k"]) for one in others)}) == 6


def test_the_key_of_a_report_is_that_of_its_runs_and_of_its_template(monkeypatch):
    metrics = {"results/a/metrics.json": "k1", "results/b/metrics.json": "k2"}
    before = keys.report_key(metrics)
    assert keys.report_key(dict(reversed(metrics.items()))) == before
    renamed = {path.replace("b", "c"): key for path, key in metrics.items()}
    swapped = dict(zip(metrics, ("k2", "k1")))
    assert list(keys.report_recipe()["files"]) == ["page.html.j2"]
    monkeypatch.setattr(keys.external, "digest", lambda path: "of another template")
    assert len({before, *map(keys.report_key, (renamed, swapped, metrics))}) == 4


# ------------------------------------------------------------------------------------------------ another checkout
def test_dfkd_judges_a_checkout_by_its_own_code(tmp_path):
    """Two checkouts and one environment: what `dfkd` is imported from is not what the steps here run."""
    shutil.copytree(fingerprint.HERE, tmp_path / "dfkd_steps", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "params", tmp_path / "params")
    program = "import sys; from dfkd_steps import cli; sys.exit(cli.main(sys.argv[1:]))"
    path = "results/mnist-5k/lenet5/teacher.safetensors"

    def said():
        command = [sys.executable, "-P", "-c", program, "spec", path]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    before = said()
    with open(tmp_path / "dfkd_steps/teacher.py", "a") as file:
        file.write("\nSOMETHING = 1\n")
    assert said() != before


def test_every_step_has_a_recipe(monkeypatch):
    monkeypatch.chdir(ROOT)
    specs = dict(
        zip(("dataset", "teacher", "transfer", "balance", "student"), ("mnist-5k", "lenet5", "zskd", "none", "lenet5-half"))
    )
    for step in graph.STEPS:
        recipe = keys.recipe(step, specs)
        assert recipe == json.loads(json.dumps(recipe)) and step in recipe["code"]


def test_every_field_that_may_name_a_factory_has_its_code_in_the_key():
    """``arch: factory.MODULE.FUNCTION`` of an imported teacher had not."""
    kinds = [(group, kind) for group in spec.GROUPS for kind in params.kinds(group)]
    fields = [one for group, kind in kinds for one in dataclasses.fields(params.schema(group, kind))]
    named = [one for one in fields if isinstance(schema_fields.choices(one), (network_names.Networks, student_losses.Losses))]
    assert len({one.name for one in named}) > 1
    assert [one.name for one in named if one.metadata["external"] != "network"] == []


def test_every_field_that_names_a_file_or_a_folder_has_its_content_in_the_key():
    kinds = [(group, kind) for group in spec.GROUPS for kind in params.kinds(group)]
    named = {
        f"{group} {kind} {item.name}": item.metadata["external"]
        for group, kind in kinds
        for item in dataclasses.fields(params.schema(group, kind))
        if item.metadata["external"] not in (None, "network")
    }
    assert named == {
        "dataset npz path": "file",
        "dataset idx path": "idx",
        "dataset images path": "folder",
        "dataset masks path": "folder",
        "dataset card names_file": "file",
        "teacher train start": "file",
        "teacher import checkpoint": "file",
        "teacher import factory": "factory",
        "transfer nayer embedding_file": "file",
        "transfer single-image images": "file",
    }


@pytest.mark.parametrize(
    ("config", "modules"),
    [
        (groups.Npz("npz", path="x"), ["datasets.array_files"]),
        (groups.Npz("npz", path="x", task="segmentation"), ["datasets.label_maps"]),
        (groups.Masks(path="x", height=8, classes=2), ["datasets.label_maps"]),
        (groups.DrawnShapes(), ["datasets.label_maps"]),
        (groups.TrainTeacher(arch="lenet5", start="x.pth"), ["models.lenet", "models.start"]),
        (groups.ImportTeacher(checkpoint="x.pth", arch="lenet5"), ["models.lenet", "models.pretrained"]),
        (groups.LibraryTeacher(name="resnet18"), ["models.pretrained"]),
        (groups.Student(arch="lenet5", loss="l1"), ["models.lenet", "training.losses"]),
        (groups.Student(arch="lenet5", loss="factory.mine.squares"), ["models.lenet", "training.student_losses"]),
    ],
)
def test_the_code_that_only_a_value_makes_a_step_run_is_in_the_key(config, modules):
    assert sorted(set(keys.chosen_code(config)[0])) == modules
