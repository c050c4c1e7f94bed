"""The step export, `dfkd evaluate` on what it wrote, and transfer sets for other programs."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from dfkd_steps import cli, dataset, export
from dfkd_steps.models import hooks, onnx_file
from dfkd_steps.models.classifier import Classifier, Description, build_architecture
from dfkd_steps.pipeline import audit, graph, keys, params, spec, sweep
from dfkd_steps.pipeline.job import Job
from dfkd_steps.reporting import other_images
from dfkd_steps.runtime import memory
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.storage import atomic, dataset_file, exported, network_file
from dfkd_steps.storage.transfer_set import Layout, TransferSet, Writer
from dfkd_steps.storage.verify import verify
from dfkd_steps.training import metrics

ROOT = Path(__file__).parents[2]
SPECS = dict(zip(spec.GROUPS, ("mnist-5k", "lenet5", "procedural", "none", "lenet5-half")))
CLASSES = ("zero", "one", "zwei, größer")


def network(arch, seed):
    torch.manual_seed(seed)
    return build_architecture(arch, 3, (1, 28, 28)), Description("arch", arch, CLASSES, (1, 28, 28), (0.2,), (0.3,))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A results folder with random networks and a set of noise; the step has run."""
    root = tmp_path_factory.mktemp("export") / "results"
    for step, arch, seed in (("teacher", "lenet5", 1), ("distill", "lenet5-half", 2)):
        path = graph.path_of(step, SPECS, root)
        path.parent.mkdir(parents=True, exist_ok=True)
        network_file.save(path, *network(arch, seed), "key", {})
    images = np.random.default_rng(0).integers(0, 256, (90, 1, 28, 28), np.uint8)
    with torch.no_grad():
        teacher = network_file.load(graph.path_of("teacher", SPECS, root))
        logits = teacher(torch.from_numpy(images).float() / 255).numpy()
    writer = Writer(graph.path_of("balance", SPECS, root), "key", Layout((1, 28, 28), 3, targets=False), 90)
    writer.append(images=images, logits=logits, labels=logits.argmax(1), round=np.zeros(90))
    writer.finish({}, {"label": "noise of a test", "classes": list(CLASSES)})
    export.run(job(root))
    return root


def job(root, key="a-key"):
    out = graph.path_of("export", SPECS, root)
    return Job("export", out, [graph.path_of(step, SPECS, root) for step in ("distill", "teacher", "balance")], None, key, {})


def test_the_step_writes_all_its_files_and_no_more(root):
    out = job(root).out
    content = atomic.read_json(out)
    assert sorted(path.name for path in (out.parent / "export").iterdir()) == sorted(exported.NAMES)
    assert set(content["files"]) == set(exported.NAMES)
    assert content["key"] == "a-key" and content["classes"] == list(CLASSES)
    assert audit.outputs(out) == [out, *exported.paths(out)]
    last = max(path.stat().st_mtime_ns for path in exported.paths(out))
    assert out.stat().st_mtime_ns >= last, "where it is, what it vouches for is there"
    for found in content["measured"].values():
        assert found["largest_difference"] < 1e-4 and found["onnx_student"] == 100.0
        assert 0 < found["int8_student"] <= 100
    assert content["measured"]["transfer set, held out"]["images"] == 45  # half of so small a set calibrates


@pytest.mark.parametrize("files", [None, [1], "x", {"README.md": 5}])
def test_an_export_that_names_no_files_vouches_for_none(tmp_path, files):
    """Whatever stands there under a checksum that fits."""
    for path in exported.paths(tmp_path / "export.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    said = list(exported.faults(tmp_path / "export.json", {"files": files}))
    assert len(said) == len(exported.NAMES) and said[0].startswith("its export/README.md was changed or belongs to another")


def test_no_image_that_calibrates_is_held_out(tmp_path):
    """And both are spread over the set, which may be in order of classes or rounds."""
    values = np.arange(1600, dtype=np.float32) / 1600
    writer = Writer(tmp_path / "set", "key", Layout((1, 1, 1), 2, "float32", targets=False), 1600)
    rest = {"logits": np.zeros((1600, 2)), "labels": np.zeros(1600, int), "round": np.zeros(1600)}
    writer.append(images=values[:, None, None, None], **rest)
    writer.finish({}, {})
    with TransferSet(tmp_path / "set") as transfer:
        rows = export.divide(transfer)
        read = [list(export.parts(transfer, some, 64)) for some in rows]
        assert [len(part) for part in read[0]] == [64] * 7 + [52]  # 500 by 64
        calibrating, held_out = (np.concatenate(pieces).ravel() for pieces in read)
    assert (len(calibrating), len(held_out)) == (500, 1000) and not set(calibrating) & set(held_out)
    assert all(abs(images.mean() - 0.5) < 0.05 and images.max() > 0.95 for images in (calibrating, held_out))


def test_agreements_by_hand():
    answers = {"torch": [0, 0, 1, 1, 0], "teacher": [0, 1, 1, 1, 0], "int8": [1, 1, 1, 1, 1], "onnx": [0, 0, 1, 1, 0]}
    tables = {name: 3 * torch.eye(2)[given] for name, given in answers.items()}
    tables["onnx"][1, 1] += 0.01
    networks = {name: lambda images, table=table: table[images.flatten().long()] for name, table in tables.items()}
    images = np.arange(5.0).reshape(5, 1, 1, 1)
    assert export.compare(networks, [images[:3], images[3:]]) == {
        "images": 5, "student_teacher": 80.0, "int8_teacher": 60.0, "int8_student": 40.0, "onnx_student": 100.0,
        "largest_logit": 3.0, "largest_difference": 0.01,
    }  # fmt: skip


def test_onnx_computes_what_the_student_does_for_any_number_of_images(root):
    out = job(root).out
    student = network_file.load(job(root).inputs[0])
    running = onnx_file.OnnxClassifier(out.parent / "export/student.onnx")
    for number in (1, 5, 70):
        images = torch.rand(number, 1, 28, 28)
        with torch.no_grad():
            assert torch.allclose(running(images), student(images), atol=1e-4)
    assert running.classes == CLASSES and running.image_shape == (1, 28, 28)
    model = onnx.load(out.parent / "export/student.onnx")
    assert [one.name for one in (*model.graph.input, *model.graph.output)] == ["input", "logits"]
    assert [one.version for one in model.opset_import if not one.domain] == [onnx_file.OPSET]


@pytest.mark.parametrize(
    "foreign",
    [
        {"classes": "cat,dog,bird"},
        {"classes": "[1, 2, 3]", "image_shape": "[1, 28, 28]"},
        {"classes": '"zero"', "image_shape": "[1, 28, 28]"},
        {"classes": "[]", "image_shape": "[1, 28, 28]"},
        {"classes": "[" * 100_000, "image_shape": "[1, 28, 28]"},
        {"classes": '["a", "b", "c"]', "image_shape": "[28, 28]"},
        {"classes": '["a", "b", "c"]', "image_shape": "[1, 28, 0]"},
        {"classes": '["a", "b", "c"]', "image_shape": "[1, 28, true]"},
        {"classes": '["a", "b", "c"]', "image_shape": "28"},
        {},
    ],
)
def test_metadata_of_another_program_are_one_line(root, tmp_path, capsys, foreign):
    model = onnx.load(job(root).out.parent / "export/student.onnx")
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, foreign)
    onnx.save(model, tmp_path / "foreign.onnx")
    Image.new("L", (28, 28)).save(tmp_path / "an.png")
    code, _, err = printed(capsys, "evaluate", tmp_path / "foreign.onnx", "--images", tmp_path)
    assert code == 2 and err == (
        f"error: {tmp_path}/foreign.onnx: its metadata do not state classes and image_shape as JSON lists; give an ONNX file "
        "that dfkd exported\n"
    )


def test_onnx_refuses_images_of_0_to_255(root):
    found = onnx_file.OnnxClassifier(job(root).out.parent / "export" / "student.onnx")
    for images in (torch.full((2, 1, 28, 28), 200, dtype=torch.uint8), torch.full((2, 1, 28, 28), 200.0)):
        with pytest.raises(UserError, match=r"images: values are not in \[0, 1\]; divide values of 0 to 255 by 255"):
            found(images)


def test_int8_has_int8_weights_and_the_ranges_of_the_set(root):
    model = onnx.load(job(root).out.parent / "export/student-int8.onnx")
    kinds = [one.data_type for one in model.graph.initializer if len(one.dims) > 1 and np.prod(one.dims) > 1]
    assert onnx.TensorProto.INT8 in kinds and onnx.TensorProto.FLOAT not in kinds
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    dark = np.zeros((8, 1, 28, 28), np.float32)
    student = network_file.load(job(root).inputs[0])
    plain = (job(root).out.parent / "export/student.onnx").read_bytes()
    ranges = [onnx_file.int8_bytes(plain, [images], student.description) for images in (dark, dark + 1)]
    assert ranges[0] != ranges[1]


def test_networks_are_compared_a_few_images_at_a_time_with_the_figures_of_all(monkeypatch):
    """The logits of 100 images of 480 x 640 pixels, 13 classes and 4 networks are 6 GB."""
    images, alive, most = np.random.default_rng(0).random((20, 3, 8, 12), np.float32), weakref.WeakSet(), []
    torch.manual_seed(0)
    convolutions = {name: torch.nn.Conv2d(3, 5, 1).requires_grad_(False) for name in ("teacher", "torch", "int8")}
    convolutions["onnx"] = lambda part: convolutions["torch"](part) + 0.1 * part[:, :1] ** 2

    def keeping(network):
        def answer(part):
            alive.add(logits := network(part))
            most.append((len(part), sum(map(len, alive))))
            return logits

        return answer

    networks = {name: keeping(network) for name, network in convolutions.items()}
    monkeypatch.delenv("DFKD_MEMORY", raising=False)
    monkeypatch.setattr(memory, "VALUES", 3 * 3 * 8 * 12)
    assert onnx_file.at_once((3, 8, 12), 12) == 3 and onnx_file.at_once((3, 8, 12), 13) == 2
    measured = export.compare(networks, (images[start : start + 3] for start in range(0, 20, 3)))
    assert max(most) == (3, 2 * 4 * 3) and len(most) == 4 * 7  # of two parts at most, while one takes the place of the other
    whole = {name: network(torch.from_numpy(images)) for name, network in convolutions.items()}
    answers = {name: logits.argmax(1) for name, logits in whole.items()}
    assert measured == pytest.approx({
        "images": 20,
        "student_teacher": metrics.accuracy(whole["torch"], answers["teacher"], 1),
        "int8_teacher": metrics.accuracy(whole["int8"], answers["teacher"], 1),
        "int8_student": metrics.accuracy(whole["int8"], answers["torch"], 1),
        "onnx_student": metrics.accuracy(whole["onnx"], answers["torch"], 1),
        "largest_logit": round(whole["torch"].abs().max().item(), 6),
        "largest_difference": float(f"{(whole['onnx'] - whole['torch']).abs().max().item():.3g}"),
    }, abs=1e-5)  # fmt: skip
    images[-1, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="its ONNX form differs by nan in a logit"):
        export.refuse_difference("student", {"images": export.compare(networks, [images])})
    assert [len(part) for part in onnx_file._batches(images)] == [3] * 6 + [2]
    monkeypatch.setattr(memory, "VALUES", 1 << 30)
    assert onnx_file.at_once((3, 8, 12)) == onnx_file.BATCH


def test_program_and_state_dict_need_no_dfkd(root):
    folder = job(root).out.parent / "export"
    student = network_file.load(job(root).inputs[0])
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        program = torch.export.load(folder / "student.pt2").module()
        assert torch.allclose(program(images), student(images), atol=1e-5)
        net = network("lenet5-half", 9)[0]
        net.load_state_dict(load_file(folder / "state_dict.safetensors"))
        with safe_open(folder / "state_dict.safetensors", "pt") as file:
            described = json.loads(file.metadata()["normalisation"])
        assert described == {"arch": "lenet5-half", "mean": list(student.description.mean), "std": list(student.description.std)}
        assert torch.allclose(Classifier(net.eval(), student.description)(images), student(images), atol=1e-5)


def test_the_card_says_what_both_networks_cost(root):
    exporting = job(root)
    text = (exporting.out.parent / "export/README.md").read_text()
    for role, path in zip(("student", "teacher"), exporting.inputs):
        parameters = hooks.parameters(network_file.load(path).net)
        row = rf"\| {role} \| {parameters:,} \| [\d,]+ \| {path.stat().st_size:,} \|"
        assert re.search(f"^{row}$", text, re.M), row


def test_the_lines_of_the_card_run(root):
    folder = job(root).out.parent / "export"
    text = (folder / "README.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(lines.splitlines()) == 5
    done = subprocess.run([sys.executable, "-c", lines], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in CLASSES
    assert "noise of a test" in text and "It is not an accuracy" in text and f"opset {onnx_file.OPSET}" in text


def test_the_same_inputs_give_the_same_bytes(root):
    out = job(root).out
    before = {path: path.read_bytes() for path in audit.outputs(out)}
    export.run(job(root, "other"))
    assert json.loads(out.read_text())["key"] == "other"
    export.run(job(root))
    assert {path: path.read_bytes() for path in audit.outputs(out)} == before


def test_audit_and_verify_see_a_changed_and_a_missing_file(root, monkeypatch):
    monkeypatch.chdir(ROOT)
    out = job(root).out
    monkeypatch.setattr(keys, "expected_key", lambda path: "a-key")
    assert audit.fault(out) is None and verify(out) == []
    path = out.parent / "export/student.onnx"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    assert "student.onnx was changed" in audit.fault(out) and "student.onnx was changed" in verify(out)[0]
    path.unlink()
    assert "student.onnx is missing" in audit.fault(out) and "student.onnx is missing" in verify(out)[0]
    path.write_bytes(content)


def test_no_data_set_is_read():
    assert "dataset" not in graph.STEPS["export"].inputs


def test_a_student_whose_onnx_form_differs_is_refused(root, monkeypatch):
    class Wrong(onnx_file.OnnxClassifier):
        def __call__(self, images):
            return super().__call__(images) + 1

    monkeypatch.setattr(onnx_file, "OnnxClassifier", Wrong)
    monkeypatch.setattr(onnx_file, "BATCH", 8)
    numbers, read = [], TransferSet.read
    monkeypatch.setattr(
        TransferSet,
        "read",
        lambda self, field, rows: (field == "images" and numbers.append(len(rows))) or read(self, field, rows),
    )
    with pytest.raises(UserError, match=r"student\.safetensors: its ONNX form differs by 1\.0"):
        export.run(job(root, "third"))
    assert numbers == [8, 8, 8, 8, 8, 5] * 2, "no more images are held than pass through the networks together"


def test_a_missing_package_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"needs the package onnxscript .*; run pip install -e '\.\[export\]'$"):
        onnx_file.require("onnx", "onnxscript")


def test_students_of_the_list_export_are_exported(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    lists = {group: [text] for group, text in SPECS.items()} | {"student": ["lenet5-half", "lenet5-half-hard"]}
    assert sweep.exports(lists) == []
    assert sweep.exports(lists | {"export": ["lenet5-half"]}) == [str(graph.path_of("export", SPECS))]
    with pytest.raises(UserError, match="export: 'resnet8' is not in the list student; add it there"):
        sweep.check(lists | {"export": ["resnet8"]}, "x.yaml")


# ------------------------------------------------------------------------------------- a student on other images
def printed(capsys, *arguments):
    code = cli.main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out, err


def test_evaluate_on_labelled_and_unlabelled_images(root, tmp_path, capsys):
    student, teacher = (network_file.load(path) for path in job(root).inputs[:2])
    images = np.random.default_rng(3).integers(0, 256, (30, 28, 28), np.uint8)
    with torch.no_grad():
        stored = torch.from_numpy(images)[:, None].float() / 255
        s, t = (net(stored).argmax(1).numpy() for net in (student, teacher))
    labels = np.where(np.arange(30) < 12, s, (s + 1) % 3)  # 12 of 30 right
    np.savez(tmp_path / "some.npz", images=images, labels=labels)
    found = dict(other_images.measure(job(root).inputs[0], tmp_path / "some.npz", None))
    assert found["student.safetensors"]["top1"] == 40.0 and found["student.safetensors"]["images"] == 30
    assert found["student.safetensors"]["agreement"] == pytest.approx(100 * (s == t).mean(), abs=1e-3)
    assert found["teacher"]["agreement"] == 100.0
    for number, image in enumerate(images):
        path = tmp_path / "labelled" / CLASSES[labels[number]] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        (tmp_path / "plain").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "plain" / f"{number}.png")
    code, out, _ = printed(capsys, "evaluate", job(root).out.parent / "export", "--images", tmp_path / "labelled")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == [
        "network",
        "teacher",
        "student-int8.onnx",
        "student.onnx",
    ]
    assert " 40.00 (24.59 to 57.68) " in out.splitlines()[3]
    code, out, _ = printed(capsys, "evaluate", job(root).inputs[0], "--images", tmp_path / "plain")
    assert code == 0 and "top-1" not in out and "agreement %" in out
    assert not list(root.rglob("metrics.json"))


def test_images_of_a_folder_take_the_form_that_their_data_set_gave_them(tmp_path, capsys):
    """The figures of the test images are those of their data set, wherever the command is started; else images are cropped."""
    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    for split, name, number in itertools.product(("train", "test"), CLASSES, range(4)):
        path = folder / split / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (28, 70), np.uint8)).save(path)
    (tmp_path / "params/dataset").mkdir(parents=True)
    text = f"source: images\npath: {folder}\nsize: 28\nchannels: 1\nnames: {json.dumps(CLASSES)}\n"
    (tmp_path / "params/dataset/pictures.yaml").write_text(text)
    specs, measured = dict(SPECS), {}
    for specs["dataset"] in ("pictures", "pictures+fit=squash", "gone"):
        paths = {step: graph.path_of(step, specs, tmp_path / "results") for step in ("dataset", "teacher", "distill")}
        for step, arch, seed in (("teacher", "lenet5", 1), ("distill", "lenet5-half", 2)):
            paths[step].parent.mkdir(parents=True, exist_ok=True)
            network_file.save(paths[step], *network(arch, seed), "key", {})
        measured[specs["dataset"]] = figures(paths["distill"], folder / "test")
        if specs["dataset"] != "gone":
            config = params.load("dataset", specs["dataset"], tmp_path / "params")
            dataset.run(Job("dataset", paths["dataset"], [], config, "key", {}))
            assert measured[specs["dataset"]] == figures(paths["distill"], None)
    assert measured["pictures"] == measured["gone"] != measured["pictures+fit=squash"]
    said = capsys.readouterr().err
    assert "images are not cropped, as the data set pictures+fit=squash has fit: squash" in said
    assert "images are cropped, because the data set of its path cannot be read (dataset: no file" in said
    student = paths["distill"].with_name("export") / "student.onnx"
    assert {other_images.settings_of(place, True, False)[0] for place in (student, student.parent, Path("x.onnx"))} == {"crop"}
    squashed = Path(str(student).replace("/gone/", "/pictures+fit=squash/"))
    assert {other_images.settings_of(place, True, False)[0] for place in (squashed, squashed.parent)} == {"squash"}


def figures(student, source):
    found = dict(other_images.measure(student, source, None))["student.safetensors"]
    return {name: found[name] for name in ("top1", "agreement", "images")} | {"kl": round(found["kl"], 4)}


def test_a_card_has_no_test_images_to_measure_on(tmp_path):
    none = {"x": np.empty((0, 3, 8, 8), np.uint8), "y": np.empty(0, np.int64)}
    arrays = {f"{name}_{split}": value for name, value in none.items() for split in ("train", "test")}
    dataset_file.write(tmp_path / "dataset.h5", "k", {}, ("a", "b"), arrays, card={"mean": [], "std": []})
    with pytest.raises(UserError, match=r"dataset\.h5: is a card and has no images; give --images, a folder of images"):
        other_images.read(tmp_path / "dataset.h5", SimpleNamespace(classes=("a", "b"), image_shape=(3, 8, 8)))


def test_hidden_files_are_not_images(tmp_path):
    for name in ("ant/0.png", "ant/._0.png", "bee/.ipynb_checkpoints/0-checkpoint.png", "bee/0.png", "bee/more/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    files = other_images.listed(tmp_path, SimpleNamespace(classes=("ant", "bee")))
    assert files == [(tmp_path / "ant/0.png", 0), (tmp_path / "bee/0.png", 1), (tmp_path / "bee/more/1.png", 1)]
    assert other_images.listed(tmp_path / "ant", SimpleNamespace(classes=("a", "b"))) == [(tmp_path / "ant/0.png", -1)]


def test_folders_that_are_numbers_are_the_classes_by_value(tmp_path, capsys):
    for number in range(11):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a.png").touch()
    found = other_images.listed(tmp_path, SimpleNamespace(classes=[f"class {number}" for number in range(11)]))
    assert [(path.parent.name, label) for path, label in found] == [(str(number), number) for number in range(11)]
    assert "labels follow the order of the folders ('0' = 'class 0', '1' = 'class 1', " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (
            ["ant", "bee", "cwo"],
            "'cwo' matches no class; rename it to the name of its class or remove it (classes without a folder: cow)",
        ),
        (["ant", "bee", "cow", "dog"], "folder 'dog' matches no class; rename it to the name of its class or remove it"),
        (
            ["cow", "x"],
            "folder 'x' matches no class; rename it to the name of its class or remove it (classes without a folder: ant, bee)",
        ),
    ],
)
def test_a_misspelt_class_folder_is_refused(tmp_path, folders, words):
    """By their order, it would give the images of other folders the labels of their neighbours."""
    for name in folders:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    with pytest.raises(UserError) as caught:
        other_images.listed(tmp_path, SimpleNamespace(classes=("ant", "bee", "cow")))
    assert str(caught.value).startswith(f"{tmp_path}: ") and str(caught.value).endswith(words)


def bare_array(path):
    """An .npy file."""
    with path.open("wb") as file:
        np.save(file, np.zeros((4, 28, 28), np.uint8))


def changed_archive(path):
    """An .npz file with a byte of its images changed."""
    with path.open("wb") as file:
        np.savez(file, images=np.zeros((4, 28, 28), np.uint8))
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda at: None, "no such file or folder"),
        (lambda at: at.mkdir(), "contains no images"),
        (lambda at: [at.joinpath(name).mkdir(parents=True) for name in "ab"], "has 2 folders, but the student has 3 classes"),
        (lambda at: (at.mkdir(), at.joinpath("a.png").write_text("no")), "is not a readable PNG"),
        (lambda at: at.write_text("no"), "is damaged or not an .npz file"),
        (bare_array, "give an .npz file (numpy.savez), a dataset.h5 or a folder of images"),
        (changed_archive, "is damaged or not an .npz file (Bad CRC-32 for file 'images.npy')"),
    ],
)
def test_wrong_images_are_one_line(root, tmp_path, capsys, make, words):
    make(tmp_path / "images")
    code, _, err = printed(capsys, "evaluate", job(root).inputs[0], "--images", tmp_path / "images")
    assert code == 2 and words in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((4, 32, 32), np.uint8)}, "give one or more uint8 images, N x 1x28x28"),
        ({"images": np.zeros((4, 28, 28), np.float32)}, "images are float32"),
        ({"images": np.zeros((4, 28, 28), np.uint8), "labels": np.array([0, 1, 2, 3])}, "labels do not fit"),
        ({"images": np.zeros((4, 28, 28), np.uint8), "labels": np.full(4, 0.5)}, "labels are float64; give the numbers"),
        ({"images": np.zeros((4, 28, 28), np.uint8), "labels": np.array(list("0120"))}, "labels are <U1; give the numbers"),
        ({"pictures": np.zeros((4, 28, 28), np.uint8)}, "has no array x_test or images"),
    ],
)
def test_wrong_arrays_are_one_line(root, tmp_path, capsys, arrays, words):
    np.savez(tmp_path / "some.npz", **arrays)
    code, _, err = printed(capsys, "evaluate", job(root).inputs[0], "--images", tmp_path / "some.npz")
    assert code == 2 and words in err and err.count("\n") == 1


def test_a_teacher_with_other_classes_is_one_line(root, tmp_path, capsys):
    described = Description("arch", "lenet5", ("a", "b"), (1, 28, 28), (0.2,), (0.3,))
    network_file.save(tmp_path / "two.safetensors", build_architecture("lenet5", 2, (1, 28, 28)), described, "key", {})
    np.savez(tmp_path / "some.npz", images=np.zeros((4, 28, 28), np.uint8))
    how = ["--images", tmp_path / "some.npz", "--teacher", tmp_path / "two.safetensors"]
    code, _, err = printed(capsys, "evaluate", job(root).inputs[0], *how)
    assert (code, err) == (2, f"error: {how[3]}: has 2 classes, {job(root).inputs[0]} has 3; give its own teacher\n")


def test_where_the_teacher_is_gone_the_test_images_are_those_of_the_path(root, tmp_path, capsys):
    shutil.copytree(root, tmp_path / "results")
    graph.path_of("teacher", SPECS, tmp_path / "results").unlink()
    images = np.zeros((7, 1, 28, 28), np.uint8)
    arrays = {f"{name}_{split}": value for split in ("train", "test") for name, value in (("x", images), ("y", np.arange(7) % 3))}
    dataset_file.write(graph.path_of("dataset", SPECS, tmp_path / "results"), "key", {}, CLASSES, arrays)
    for place in (job(tmp_path / "results").inputs[0], job(tmp_path / "results").out.parent / "export"):
        code, out, err = printed(capsys, "evaluate", place)
        assert (code, err) == (0, "") and "teacher" not in out and out.splitlines()[1].split()[1] == "7"
    shutil.copy(job(root).inputs[0], tmp_path / "alone.safetensors")
    code, _, err = printed(capsys, "evaluate", tmp_path / "alone.safetensors")
    assert code == 2 and "its test images are not known, because it lies in no path under results/; give --images" in err


def test_another_teacher_does_not_bring_its_test_images(root, tmp_path, capsys):
    """They are those of the student's path."""
    (tmp_path / "other/t").mkdir(parents=True)
    shutil.copy(job(root).inputs[1], tmp_path / "other/t/teacher.safetensors")
    results = shutil.copytree(root, tmp_path / "results")
    for path, number in ((graph.path_of("dataset", SPECS, results), 6), (tmp_path / "other/dataset.h5", 3)):
        images = np.random.default_rng(0).integers(0, 256, (number, 1, 28, 28), np.uint8)
        arrays = {f"{kind}_{split}": value for kind, value in (("x", images), ("y", np.arange(number) % 3))
                  for split in ("train", "test")}  # fmt: skip
        dataset_file.write(path, "k", {}, CLASSES, arrays)
    code, out, _ = printed(capsys, "evaluate", job(results).inputs[0], "--teacher", tmp_path / "other/t/teacher.safetensors")
    assert code == 0 and [line.split()[1] for line in out.splitlines()[1:]] == ["6", "6"]


def test_files_beside_each_other_have_no_known_test_images(root, tmp_path, monkeypatch, capsys):
    """Named from the folder that they lie in, and from elsewhere."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    for source, name in zip(job(root).inputs, ("student.safetensors", "teacher.safetensors")):
        shutil.copy(source, tmp_path / "a" / "b" / name)
    for folder, at in (("a/b", "."), ("a", "b")):
        monkeypatch.chdir(tmp_path / folder)
        code, _, err = printed(capsys, "evaluate", f"{at}/student.safetensors", "--teacher", f"{at}/teacher.safetensors")
        assert code == 2 and err.count("\n") == 1
        assert f"its test images are not known, because there is no {tmp_path}/a/dataset.h5; give --images FOLDER" in err
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 28, 28), np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(6) % 3, "x_test": images, "y_test": np.arange(6) % 3}
    dataset_file.write(tmp_path / "a" / "dataset.h5", "k", {}, CLASSES, arrays)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert printed(capsys, "evaluate", "student.safetensors", "--teacher", "teacher.safetensors")[0] == 0


def test_a_folder_of_different_onnx_files_is_one_line(root, tmp_path, capsys):
    exported_files = job(root).out.parent / "export"
    model = onnx.load(exported_files / "student.onnx")
    onnx.helper.set_model_props(model, {"classes": '["a", "b"]', "image_shape": "[1, 28, 28]"})
    onnx.save(model, tmp_path / "other.onnx")
    shutil.copy(exported_files / "student.onnx", tmp_path)
    np.savez(tmp_path / "some.npz", images=np.zeros((4, 28, 28), np.uint8))
    code, _, err = printed(capsys, "evaluate", tmp_path, "--images", tmp_path / "some.npz")
    assert code == 2 and "take images of different shapes or have different classes; give one of the files" in err


# ------------------------------------------------------------------------------------- a set for other programs
def test_a_transfer_set_is_a_data_set_of_torch(root):
    with TransferSet(job(root).inputs[2]) as transfer:
        loader = torch.utils.data.DataLoader(transfer, batch_size=40, shuffle=False)
        batches = list(loader)
        assert [len(images) for images, _ in batches] == [40, 40, 10]
        images, logits = batches[0]
        assert images.dtype == torch.float32 and images.min() >= 0 and 0.99 < images.max() <= 1
        np.testing.assert_array_equal((images.numpy() * 255).round(), transfer.read("images", slice(0, 40)))
        np.testing.assert_array_equal(logits.numpy(), transfer.read("logits", slice(0, 40)))
        assert len(list(transfer)) == 90  # ends where the set ends


def test_a_set_as_png_files(root, tmp_path, capsys):
    code, out, _ = printed(capsys, "export-set", job(root).inputs[2], "--png", tmp_path / "set")
    assert code == 0 and "wrote 90 images" in out
    lines = (tmp_path / "set/labels.csv").read_text().splitlines()
    assert lines[0] == "file,class,probability" and len(lines) == 91
    with TransferSet(job(root).inputs[2]) as transfer:
        images, labels = transfer.read("images"), transfer.read("labels")
    for line in lines[1:]:
        file, label, _ = line.split(",")
        number = int(Path(file).stem)
        assert labels[number] == int(label) and file.startswith(f"{label}-")
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "set" / file)), images[number, 0])
    code, _, err = printed(capsys, "export-set", job(root).inputs[2], "--png", tmp_path / "set")
    assert code == 2 and "already contains files" in err


def test_the_example_calibrates_a_network_with_a_set(root, tmp_path):
    command = [
        sys.executable,
        ROOT / "examples/calibrate_onnx.py",
        job(root).out.parent / "export/student.onnx",
        job(root).inputs[2],
    ]
    subprocess.run(
        [*command, tmp_path / "int8.onnx"], capture_output=True, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    images = torch.rand(4, 1, 28, 28)
    assert onnx_file.OnnxClassifier(tmp_path / "int8.onnx")(images).shape == (4, 3)
    kinds = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert "QuantizeLinear" in kinds
