"""A teacher and nothing else, by the steps' own commands: no image lies anywhere, and a student comes out."""

import contextlib
import io
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dfkd_steps import cli, new
from dfkd_steps.models import tasks
from dfkd_steps.models.classifier import build_architecture
from dfkd_steps.pipeline import graph, spec
from dfkd_steps.procedural import shapes
from dfkd_steps.reporting import first_try, params_files
from dfkd_steps.storage import dataset_file, network_file
from dfkd_steps.storage.transfer_set import TransferSet

from . import steps

FOR_MAPS = {"deepinversion", "dfad", "fast", "noise", "procedural", "ssd-kd"}  # methods whose class says segmentation
pytestmark = pytest.mark.filterwarnings("ignore")
NETS = """
from torch import nn
def teacher(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, num_classes)
    )
def student(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""
DAFL = "method: dafl\nn: 32\nrounds: 2\nturns: 1\nsteps_s: 1\nwidth: 8\ntrain_batch: 8\nbatch: 16\n"
PARAMS = {
    "dataset/card": "source: card\nnames: [a, b, c]\nheight: 32\nwidth: 40\nmean: [0.5, 0.5, 0.5]\nstd: [0.5, 0.5, 0.5]\n",
    "dataset/cut": "source: card\nkeep: [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]\nheight: 64\n",
    "teacher/made": "kind: import\ncheckpoint: a.pth\nfactory: alone_nets:teacher\n",
    "teacher/onnx": "kind: import\ncheckpoint: a.onnx\n",
    "teacher/thousand": "kind: import\ncheckpoint: b.pth\narch: timm.test_resnet\n",
    "student/small": "arch: torchvision.mobilenet_v3_small\nepochs: 1\nbatch: 16\n",
    "student/own": "arch: factory.alone_nets.student\nepochs: 1\nbatch: 16\n",
    "student/inside": "arch: torchvision.squeezenet1_1\nepochs: 0\ninit: transfer\n",
    "student/own-inside": "arch: factory.alone_nets.student\nepochs: 0\ninit: transfer\n",
    "transfer/drawn": "method: procedural\nkind: scenes\nn: 32\nbatch: 16\n",
    "transfer/dafl-small": f"{DAFL}student: torchvision.squeezenet1_1\n",
    "transfer/dafl-own": f"{DAFL}student: factory.alone_nets.student\n",
    "balance/none": "mode: none\n",
}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("alone_nets.py").write_text(NETS)
    for name, content in PARAMS.items():
        path = Path("params", f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# A test.\n{content}")
    return tmp_path


def weights():
    """A teacher as somebody has it, with BatchNorm statistics of its own."""
    torch.manual_seed(0)
    space = {}
    exec(NETS, space)
    net = space["teacher"](3)
    net[1].running_mean.normal_(), net[1].running_var.uniform_(0.5, 2)
    return net.eval()


def run(*specs) -> tuple[Path, str]:
    """All steps up to the student; its path, and what the steps said."""
    parts, said = dict(zip(spec.GROUPS, specs)), io.StringIO()
    for step in ("dataset", "teacher", "synthesize", "balance", "distill"):
        out = graph.path_of(step, parts)
        with contextlib.redirect_stderr(said):
            assert steps.command(step, out, *graph.inputs_of(out)) == (0, []), step
    return out, said.getvalue()


@pytest.mark.parametrize(("transfer", "student", "builder"), [
    ("drawn", "small", "torchvision"), ("drawn", "own", "factory"),
    ("dafl-small", "inside", "torchvision"), ("dafl-own", "own-inside", "factory"),
])  # fmt: skip
def test_a_factory_teacher_and_a_student_of_any_kind(workplace, transfer, student, builder):
    torch.save(weights().state_dict(), "a.pth")
    out, _ = run("card", "made", transfer, "none", student)
    made = network_file.load(out)
    assert (made.description.builder, made.description.classes) == (builder, ("a", "b", "c"))
    assert made(torch.rand(2, 3, 32, 40)).shape == (2, 3)
    assert not dataset_file.open_dataset("results/card/dataset.h5").has_images


def test_an_onnx_teacher(workplace):
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    net = weights()
    torch.onnx.export(nn.Sequential(net, nn.Softmax(1)).eval(), (torch.zeros(1, 3, 32, 40),), "a.onnx", dynamo=False)
    out, _ = run("card", "onnx", "drawn", "none", "small")
    Path("a.onnx").unlink()
    teacher, images = network_file.load("results/card/onnx/teacher.safetensors"), torch.rand(3, 3, 32, 40)
    with torch.no_grad():
        assert torch.allclose(teacher(images), net((images - 0.5) / 0.5), atol=1e-4)
    assert network_file.load(out).description.name == "mobilenet_v3_small"


def test_ten_of_a_thousand_classes(workplace):
    import timm

    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=1000).eval()
    torch.save(net.state_dict(), "b.pth")
    out, _ = run("cut", "thousand", "drawn", "none", "small")
    teacher, student = network_file.load("results/cut/thousand/teacher.safetensors"), network_file.load(out)
    images = torch.rand(2, 3, 64, 64)
    mean, std = (np.float32(value) for value in (teacher.description.mean, teacher.description.std))
    shown = (images - torch.from_numpy(mean).view(-1, 1, 1)) / torch.from_numpy(std).view(-1, 1, 1)
    with torch.no_grad():
        expected = net(shown)[:, [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]]
        assert torch.allclose(teacher(images), expected, atol=1e-4)
        assert student(images).shape == (2, 10)
    assert student.description.classes[:2] == ("tench", "English springer")


@pytest.mark.parametrize("step", ["teacher", "synthesize"])
def test_steps_that_need_images_say_so(workplace, step):
    Path("params/teacher/trained.yaml").write_text("# A test.\nkind: train\narch: lenet5\nepochs: 1\n")
    Path("params/transfer/real.yaml").write_text("# A test.\nmethod: dataset\nsource: card\n")
    torch.save(weights().state_dict(), "a.pth")
    parts = {"dataset": "card", "teacher": "trained" if step == "teacher" else "made", "transfer": "real"}
    for one in ("dataset", "teacher", "synthesize"):
        out = graph.path_of(one, parts)
        code, errors = steps.command(one, out, *graph.inputs_of(out))
        if one == step:
            break
        assert (code, errors) == (0, [])
    assert code == 2
    assert len(errors) == 1 and "is a card and has no images" in errors[0]


# ---------------------------------------------------------------------------------------------- dfkd new, for segmentation
def shapes_with_masks(folder: Path, number: int = 6):
    """Images of shapes drawn here, and their masks."""
    images, labels = shapes.scenes_with_maps(number, 32, 40, torch.Generator().manual_seed(5))
    for kind, drawn in (("images", (images * 255).to(torch.uint8).permute(0, 2, 3, 1)), ("masks", labels)):
        (folder / kind).mkdir(parents=True)
        for row, pixels in enumerate(drawn.numpy()):
            Image.fromarray(pixels).save(folder / kind / f"{row}.png")


def test_new_knows_a_teacher_of_maps_and_what_it_prints_runs(workplace, repository, monkeypatch, capsys):
    """A factory that says nothing of its task; then each printed command by the steps of its path."""
    Path("nets_of_maps.py").write_text(
        "from dfkd_steps.models.classifier import build_architecture\n"
        "def maps(num_classes):\n    return build_architecture('unet-tiny', num_classes, (3, 32, 40))\n"
    )
    torch.manual_seed(3)
    torch.save(build_architecture("unet-tiny", 4, (3, 32, 40)).state_dict(), "maps.pth")
    shutil.rmtree("params")
    for group in ("transfer", "balance"):
        shutil.copytree(repository / "params" / group, Path("params", group))
    monkeypatch.setattr(first_try, "TIMED_STEPS", 1)
    monkeypatch.setitem(new.NUMBER, tasks.SEGMENTATION, 40)
    monkeypatch.setitem(params_files.SEGMENTATION_STUDENT, "epochs", 1)
    monkeypatch.setitem(params_files.SEGMENTATION_STUDENT, "steps_per_epoch", 2)
    shapes_with_masks(workplace / "te st")
    how = ["--teacher", "nets_of_maps:maps", "--checkpoint", "maps.pth", "--size", "32x40", "--student", "unet-tiny"]
    new.run(["of-maps", *how, "--classes", "a,b,c,d", "--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.2", "--test", "te st"])
    said = capsys.readouterr().out
    fits = {line.split()[0]: line.split(maxsplit=1)[1] for line in said.split("methods:\n")[1].split("\n\n")[0].splitlines()}
    assert {name for name, why in fits.items() if why.startswith("fits")} == FOR_MAPS
    assert (
        fits["fast"].startswith("fits, preset fast-segmentation-cpu (1,600 images, ")
        and fits["zskd"] == "no: is for classification, but the teacher is for segmentation"
    )
    assert "the task is segmentation" in said and "only the last command reads the 6 images of te st" in said
    printed = [shlex.split(line) for line in said.splitlines() if line.startswith(("  snakemake ", "  dfkd "))]
    (_, drawn), (_, alone), evaluate = printed

    def run(parts):
        for step in ("dataset", "teacher", "synthesize", "balance", "distill", "evaluate"):
            out = graph.path_of(step, parts)
            if not out.exists():
                assert steps.command(step, out, *graph.inputs_of(out)) == (0, []), step
        return out

    inside = spec.of_path(alone)
    out = run(inside | {"transfer": inside["transfer"] + "+batch=4+n=8+rounds=2+steps=1+warmup=1"})  # of 50 rounds
    assert json.loads(out.read_text())["specs"][-1] == "of-maps-inside"
    parts = spec.of_path(drawn)
    out = run(parts)
    assert str(out) == drawn and 0 <= json.loads(Path(out).read_text())["probe_miou"] <= 100
    assert network_file.load(Path(out).with_name("student.safetensors"))(torch.rand(2, 3, 32, 40)).shape == (2, 4, 32, 40)
    with TransferSet(graph.path_of("synthesize", parts)) as made:
        assert len(made) == 40 and made.layout.dense
    assert cli.main(evaluate[1:]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["teacher", "6"], ["student.safetensors", "6"]]
    assert lines[0].split()[:3] == ["network", "images", "mIoU"] and [line.split()[0] for line in lines[5:]] == [
        "a",
        "b",
        "c",
        "d",
    ]
