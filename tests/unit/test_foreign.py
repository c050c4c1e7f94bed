"""Networks from elsewhere: every form of checkpoint goes in, nothing else does."""

import dataclasses
import hashlib
import pickle
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from dfkd_steps.models import checkpoint_file, hooks, library, names, pretrained, registry, tasks
from dfkd_steps.models.classifier import Description, build_architecture, new_classifier
from dfkd_steps.pipeline import params
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import dataset_file, network_file

TEACHERS = Path(__file__).parents[3] / "shared/data/teachers"
PUBLIC = TEACHERS / "resnet20-12fca82f.th"


@pytest.fixture
def dataset(tmp_path):
    arrays = {f"x_{s}": np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), np.uint8) for s in ("train", "test")}
    dataset_file.write(
        tmp_path / "dataset.h5", "k", {}, list("0123456789"), arrays | {f"y_{s}": np.arange(20) % 10 for s in ("train", "test")}
    )
    return dataset_file.open_dataset(tmp_path / "dataset.h5")


@pytest.fixture
def net():
    torch.manual_seed(5)
    return build_architecture("lenet5", 10, (1, 28, 28))


def config(path, **changes):
    return groups.ImportTeacher(checkpoint=str(path), **{"arch": "lenet5", **changes})


FORMS = {
    "plain.pth": lambda state: state,
    "nested.pt": lambda state: {"state_dict": state, "epoch": 3},
    "parallel.th": lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
}


@pytest.mark.parametrize("form", [*FORMS, "flat.safetensors"])
def test_every_form_goes_in(tmp_path, dataset, net, form):
    path = tmp_path / form
    if form.endswith(".safetensors"):
        save_file(net.state_dict(), path)
    else:
        torch.save(FORMS[form](net.state_dict()), path)
    imported = pretrained.import_checkpoint(config(path), dataset)
    made, description = imported.net, imported.description
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(made(images), net(images))
    assert description.mean == dataset.mean
    assert description.classes == dataset.classes
    out = tmp_path / "teacher.safetensors"
    network_file.save(out, made, description, "key", {})
    first = out.read_bytes()
    network_file.save(out, made, description, "key", {})
    assert out.read_bytes() == first
    again = network_file.load_frozen(out)
    with torch.no_grad():
        expected = net((images - torch.tensor(dataset.mean).view(-1, 1, 1)) / torch.tensor(dataset.std).view(-1, 1, 1))
        assert torch.allclose(again(images), expected, atol=1e-5)
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_pickled_code_is_refused(tmp_path, dataset, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "bare.pth"):
        with pytest.raises(UserError, match="pickled code") as error:
            pretrained.import_checkpoint(config(tmp_path / name), dataset)
        assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "executed").exists()


def test_what_does_not_fit_is_named(tmp_path, dataset, net):
    state = net.state_dict()
    name = next(iter(state))
    torch.save({**state, "extra": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="unexpected: extra"):
        pretrained.import_checkpoint(config(tmp_path / "a.pth"), dataset)
    torch.save({key: value for key, value in state.items() if key != name}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"missing: {name}"):
        pretrained.import_checkpoint(config(tmp_path / "a.pth"), dataset)
    torch.save({f"layer.{number}": torch.zeros(1) for number in range(30)} | state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"unexpected: layer.0, .*, layer.7 and 22 more; choose") as error:
        pretrained.import_checkpoint(config(tmp_path / "a.pth"), dataset)
    assert len(str(error.value).splitlines()) == 1
    assert "layer.8" not in str(error.value)
    torch.save(build_architecture("lenet5", 7, (1, 28, 28)).state_dict(), tmp_path / "a.pth")
    with pytest.raises(UserError, match="has 7 classes, but the data set has 10; choose"):
        pretrained.import_checkpoint(config(tmp_path / "a.pth"), dataset)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"mean and std have 3 values, but images of .* have 1 channels"):
        pretrained.import_checkpoint(config(tmp_path / "a.pth", mean=[0.5] * 3, std=[0.5] * 3), dataset)
    with pytest.raises(UserError, match=rf"{name} \(6, 1, 5, 5\) instead of \(3, 1, 5, 5\)"):
        pretrained.import_checkpoint(config(tmp_path / "a.pth", arch="lenet5-half"), dataset)


@pytest.fixture
def other_names(tmp_path):
    """A network, and a file of its weights by the names that another code has for them."""
    torch.manual_seed(6)
    net = build_architecture("resnet8-b", 10, (1, 28, 28)).eval()
    other = net.state_dict()
    for ours, theirs in (("shortcut", "downsample"), ("linear.", "head.fc."), ("layer1.", "layer1.blocks.")):
        other = {key.replace(ours, theirs): value for key, value in other.items()}
    torch.save(other, tmp_path / "a.pth")
    return net, tmp_path / "a.pth"


RENAME = ["downsample=shortcut", "head.fc=linear", "blocks="]


@pytest.mark.parametrize("rename", [RENAME, ["layer1.blocks=layer1", "head=", "downsample=shortcut", "fc=linear"]])
def test_weights_by_other_names_are_renamed(other_names, dataset, rename):
    net, path = other_names
    made = pretrained.import_checkpoint(config(path, arch="resnet8-b", rename=rename), dataset).net
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(made.eval()(images), net(images))


def test_an_error_says_how_to_rename_where_that_makes_weights_fit(other_names, dataset):
    _, path = other_names
    one_part = {key.replace("head.", "").replace("blocks.", ""): value for key, value in torch.load(path).items()}
    torch.save(one_part, path)
    with pytest.raises(UserError, match=r" order, so set rename: \[downsample=shortcut, fc=linear\] \(dfkd new: --rename \S+\)$"):
        pretrained.import_checkpoint(config(path, arch="resnet8-b"), dataset)
    pretrained.import_checkpoint(config(path, arch="resnet8-b", rename=["downsample=shortcut", "fc=linear"]), dataset)
    torch.save({**one_part, "conv1.weight": torch.zeros(16, 3, 3, 3)}, path)
    with pytest.raises(UserError, match=r"; choose the architecture it was trained as$"):
        pretrained.import_checkpoint(config(path, arch="resnet8-b"), dataset)
    swapped = list(one_part.items())
    swapped[0], swapped[2] = swapped[2], swapped[0]  # the first convolution and a vector of its BatchNorm
    torch.save(dict(swapped), path)
    with pytest.raises(UserError, match=r"; choose the architecture it was trained as$"):
        pretrained.import_checkpoint(config(path, arch="resnet8-b"), dataset)
    # One of the layers conv1 alone has another name; then a name with a part more, of which no list is made.
    torch.save({key.replace("layer3.0.conv1", "layer3.0.first"): value for key, value in one_part.items()}, path)
    with pytest.raises(UserError, match=r"set rename: \[downsample=shortcut, fc=linear, first=conv1\] "):
        pretrained.import_checkpoint(config(path, arch="resnet8-b"), dataset)
    torch.save({key.replace("layer3.0.conv1", "layer3.0.bn1.conv"): value for key, value in one_part.items()}, path)
    with pytest.raises(UserError, match=r"; choose the architecture it was trained as$"):
        pretrained.import_checkpoint(config(path, arch="resnet8-b"), dataset)


@pytest.mark.parametrize("prefix", ["teacher", "my.backbone"])
def test_an_error_names_a_prefix_that_all_weights_have(tmp_path, dataset, prefix):
    net = build_architecture("resnet8-b", 10, (1, 28, 28))
    torch.save({f"{prefix}.{key}": value for key, value in net.state_dict().items()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf" order, so set rename: \[{prefix}=\] \(dfkd new: --rename {prefix}=\)$"):
        pretrained.import_checkpoint(config(tmp_path / "a.pth", arch="resnet8-b"), dataset)
    pretrained.import_checkpoint(config(tmp_path / "a.pth", arch="resnet8-b", rename=[f"{prefix}="]), dataset)


@pytest.mark.parametrize(("rename", "fault"), [
    (["fc=linear"], "rename: fc=linear: no weight has 'fc' in its name (the first is conv1.weight); correct it"),
    (["conv1=bn1"], "rename: conv1=bn1: gives two weights the name bn1.weight; correct it"),
    (["weight=bias"], "gives two weights the name bn1.bias; correct it"),
])  # fmt: skip
def test_names_that_cannot_be_given_are_refused(tmp_path, dataset, rename, fault):
    torch.save(build_architecture("resnet8-b", 10, (1, 28, 28)).state_dict(), tmp_path / "a.pth")
    with pytest.raises(UserError) as error:
        pretrained.import_checkpoint(config(tmp_path / "a.pth", arch="resnet8-b", rename=rename), dataset)
    assert str(error.value).endswith(fault)


@pytest.mark.parametrize(("checkpoint", "rename", "fault"), [
    ("a.pth", ["fc"], "rename: 'fc' is not OLD=NEW; write it like fc=linear"),
    ("a.pth", ["=linear"], "rename: '=linear' is not OLD=NEW"),
    ("a.onnx", ["fc=linear"], "an ONNX file defines the network itself; remove"),
    ("a.pth", ["head="], None),
])  # fmt: skip
def test_the_form_of_rename_is_checked(checkpoint, rename, fault):
    arch = "" if checkpoint.endswith("onnx") else "resnet8-b"
    found = groups.ImportTeacher(checkpoint=checkpoint, arch=arch, rename=rename).check()
    assert found is None if fault is None else fault in found


def test_weights_that_are_not_numbers_are_refused(tmp_path, dataset, net):
    next(net.parameters()).data[0] = float("nan")
    torch.save(net.state_dict(), tmp_path / "a.pth")
    with pytest.raises(UserError, match="logits that are not finite"):
        pretrained.import_checkpoint(config(tmp_path / "a.pth"), dataset)


def test_the_refused_code_is_named(tmp_path, dataset, net):
    torch.save({"model": net.state_dict(), "network": net}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"pickled code \(torch.nn.modules.container.Sequential\), which is refused"):
        pretrained.import_checkpoint(config(tmp_path / "a.pth"), dataset)


def test_torn_files_are_one_line(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    whole, rng = (tmp_path / "a.pth").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        torn = bytearray(whole[: rng.integers(1, len(whole))])
        torn[rng.integers(min(len(torn), 400))] = rng.integers(256)
        (tmp_path / "a.pth").write_bytes(torn)
        with pytest.raises(UserError) as error:
            pretrained.read_weights(tmp_path / "a.pth")
        refused += len(str(error.value).splitlines()) == 1
    assert refused == 200


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_files(tmp_path, dataset, content, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        pretrained.import_checkpoint(config(path), dataset)
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_missing_pinned_and_empty(tmp_path, dataset, net):
    with pytest.raises(UserError, match="no such checkpoint"):
        pretrained.import_checkpoint(config(tmp_path / "none.pth"), dataset)
    path = tmp_path / "a.pth"
    torch.save(net.state_dict(), path)
    with pytest.raises(UserError, match="sha256"):
        pretrained.import_checkpoint(config(path, sha256="0" * 64), dataset)
    pretrained.import_checkpoint(config(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest()), dataset)
    torch.save({"epoch": 3}, path)
    with pytest.raises(UserError, match="holds no weights"):
        pretrained.import_checkpoint(config(path), dataset)


def test_factory(tmp_path, dataset, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\ndef net(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))\n"
        "def seven(num_classes):\n    return net(7)\ndef none(num_classes):\n    return 3\n"
    )
    torch.save({"1.weight": torch.zeros(10, 784), "1.bias": torch.arange(10.0)}, "linear.pth")
    imported = pretrained.import_checkpoint(config("linear.pth", arch="", factory="my_nets:net"), dataset)
    made, description = imported.net, imported.description
    assert made(torch.rand(1, 1, 28, 28)).argmax() == 9
    network_file.save("t.safetensors", made, description, "k", {})
    assert network_file.load("t.safetensors")(torch.rand(1, 1, 28, 28)).argmax() == 9
    for factory, said in (
        ("my_nets", "not of the form package.module:function"),
        ("nowhere:net", "No module named"),
        ("my_nets:none", "returned a int"),
    ):
        with pytest.raises(UserError, match=said):
            pretrained.import_checkpoint(config("linear.pth", arch="", factory=factory), dataset)
    (tmp_path / "my_script.py").write_text("import sys\nsys.exit()\n")
    with pytest.raises(UserError, match="'my_script:net' failed: SystemExit"):
        pretrained.import_checkpoint(config("linear.pth", arch="", factory="my_script:net"), dataset)
    torch.save({"1.weight": torch.zeros(7, 784), "1.bias": torch.zeros(7)}, "seven.pth")
    with pytest.raises(UserError, match="has 10 classes"):
        pretrained.import_checkpoint(config("seven.pth", arch="", factory="my_nets:seven"), dataset)


IN_TRAINING = """
from torch import nn
import torch

class Net(nn.Module):
    def __init__(self, kind, num_classes):
        super().__init__()
        self.kind, self.last = kind, nn.Linear(784, num_classes)

    def forward(self, images):
        logits = self.last(images.flatten(1))
        if self.training and self.kind == "two":
            return logits, logits
        if self.training and self.kind == "wide":
            return torch.cat([logits, logits], 1)
        if self.training and self.kind == "broken":
            raise KeyError("aux")
        return logits.detach() if self.kind == "frozen" else logits

def good(num_classes): return Net("good", num_classes)
def two(num_classes): return Net("two", num_classes)
def wide(num_classes): return Net("wide", num_classes)
def broken(num_classes): return Net("broken", num_classes)
def frozen(num_classes): return Net("frozen", num_classes)
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [("two", r"returns a tuple for two images in training mode, not the logits \(2, 10\); return these alone"),
     ("wide", r"returns \(2, 20\) for two images in training mode"), ("broken", r"fails in training mode \(KeyError: 'aux'\)"),
     ("frozen", "has no weights to train, or none that reach its logits"), ("good", "")],
)  # fmt: skip
def test_a_network_that_is_to_be_trained_is_tried_in_training_mode(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    module = f"trained_{name}"
    (tmp_path / f"{module}.py").write_text(IN_TRAINING)
    like = Description("arch", "x", tuple("0123456789"), (1, 28, 28), (0.5,), (0.5,))
    if said:
        with pytest.raises(UserError, match=f"^network: {module}:{name} {said}"):
            new_classifier(f"factory.{module}.{name}", like, 0)
        return
    made = new_classifier(f"factory.{module}.{name}", like, 0)
    torch.manual_seed(0)
    assert torch.equal(made.net.last.weight, torch.nn.Linear(784, 10).weight)  # the trial draws none of its weights


DRAWN = """
import random
import numpy as np
import torch
from torch import nn

def by_others(num_classes):
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))
    net[1].weight.data = torch.from_numpy(np.random.rand(num_classes, 784)).float() + random.random()
    return net

KEPT = nn.Linear(784, 10)
def kept(num_classes): return nn.Sequential(nn.Flatten(), KEPT)
"""
DIGITS = Description("arch", "x", tuple("0123456789"), (1, 28, 28), (0.5,), (0.5,))


def test_weights_that_a_factory_draws_by_numpy_or_python_are_of_the_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn_by_others.py").write_text(DRAWN)
    drawn = []
    for place, seed in enumerate((3, 3, 4)):
        random.seed(place)
        np.random.seed(place)
        drawn.append(new_classifier("factory.drawn_by_others.by_others", DIGITS, seed).net[1].weight)
        assert random.random() == random.Random(place).random() and np.random.rand() == np.random.RandomState(place).rand()
    one, again, other = drawn
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_a_factory_that_returns_one_network_again_and_again_is_refused(tmp_path, monkeypatch):
    """Its seed would change nothing, and the trial in training mode the student itself; two students would be one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn_once.py").write_text(DRAWN)
    with pytest.raises(UserError, match=r"^network: drawn_once:kept returns a network with the weights of the one before; build"):
        new_classifier("factory.drawn_once.kept", DIGITS, 0)


LOST = """
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, kind, num_classes):
        super().__init__()
        self.kind, self.last = kind, nn.Linear(784, num_classes)
        self.register_buffer("mean", torch.zeros(784), persistent=kind != "hidden")
        self.scale = torch.from_numpy(np.random.rand(784)).float() if kind == "drawn" else 1.0

    def forward(self, images):
        images = images.flatten(1)
        if self.training and self.kind != "drawn":
            self.mean = self.mean.lerp(images.detach().mean(0), 0.5)
        return self.last((images - self.mean) * self.scale)

def stored(num_classes): return Net("stored", num_classes)
def hidden(num_classes): return Net("hidden", num_classes)
def drawn(num_classes): return Net("drawn", num_classes)
def layers(num_classes):
    between = [nn.Identity() for _ in range(int(torch.randint(1, 999, ())))]
    return nn.Sequential(nn.Flatten(), *between, nn.Linear(784, num_classes))
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [("hidden", "gives other logits when it is built again with its weights; keep what it draws or learns in parameters and buf"),
     ("drawn", "gives other logits when it is built again"), ("layers", "does not take its own weights when it is built again"),
     ("stored", "")],
)  # fmt: skip
def test_what_a_network_learns_or_draws_beside_its_state_is_refused(tmp_path, monkeypatch, name, said):
    """Its file does not hold that: the student that is evaluated was not the one that was trained."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"lost_{name}.py").write_text(LOST)
    state = torch.get_rng_state()
    if not said:
        new_classifier(f"factory.lost_{name}.{name}", DIGITS, 0)
    else:
        with pytest.raises(UserError, match=f"^network: lost_{name}:{name} {said}"):
            new_classifier(f"factory.lost_{name}.{name}", DIGITS, 0)
    assert torch.equal(torch.get_rng_state(), state)
    description = dataclasses.replace(DIGITS, builder="factory", name=f"lost_{name}:{name}")
    net = library.build(description)
    if name in ("drawn", "layers"):
        with pytest.raises(UserError, match=f"^teacher: lost_{name}:{name} {said}"):
            library.as_teacher(net, description)
    else:  # in eval mode it learns nothing
        library.as_teacher(net, description)


CHANGING = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, kind, maps, num_classes):
        super().__init__()
        self.kind, self.calls, self.maps = kind, 0, maps
        self.last = nn.Conv2d(1, num_classes, 1) if maps else nn.Linear(784, num_classes)

    def forward(self, images):
        self.calls += 1
        logits = self.last(images if self.maps else images.flatten(1))
        return logits + self.calls if self.kind == "counts" else F.dropout(logits, 0.5 * (self.kind == "draws"))

def counts(num_classes): return Net("counts", False, num_classes)
def draws(num_classes): return Net("draws", False, num_classes)
def steady(num_classes): return Net("steady", False, num_classes)
def maps_counts(num_classes): return Net("counts", True, num_classes)
def maps_steady(num_classes): return Net("steady", True, num_classes)
"""


@pytest.mark.parametrize("name", ["counts", "draws", "steady", "maps_counts", "maps_steady"])
def test_a_network_that_changes_its_answer_to_an_image_is_refused(tmp_path, monkeypatch, name):
    """A student and its file would answer differently."""
    monkeypatch.chdir(tmp_path)
    module = f"changing_{name}"
    (tmp_path / f"{module}.py").write_text(CHANGING)
    like = dataclasses.replace(DIGITS, task=tasks.SEGMENTATION if name.startswith("maps") else tasks.CLASSIFICATION)
    if "steady" in name:
        assert new_classifier(f"factory.{module}.{name}", like, 0).net.kind == "steady"
        return
    with pytest.raises(UserError, match=f"^network: {module}:{name} gives other logits when it sees an image again"):
        new_classifier(f"factory.{module}.{name}", like, 0)


def coloured(tmp_path, classes):
    arrays = {f"x_{s}": np.random.default_rng(0).integers(0, 256, (8, 3, 64, 64), np.uint8) for s in ("train", "test")}
    dataset_file.write(
        tmp_path / "d.h5",
        "k",
        {},
        list(map(str, range(classes))),
        arrays | {f"y_{s}": np.arange(8) % 4 for s in ("train", "test")},
    )
    return dataset_file.open_dataset(tmp_path / "d.h5")


def from_library(library, name, weights=""):
    return groups.LibraryTeacher(library=library, name=name, weights=weights)


def comes_back(tmp_path, made, dataset):
    net, description = made.net, made.description
    network_file.save(tmp_path / "t.safetensors", net, description, "k", {})
    images = torch.rand(2, 3, 64, 64)
    shown = (images - torch.tensor(dataset.mean).view(-1, 1, 1)) / torch.tensor(dataset.std).view(-1, 1, 1)
    with torch.no_grad():
        assert torch.allclose(network_file.load(tmp_path / "t.safetensors")(images), net(shown), atol=1e-4)


@pytest.mark.parametrize("name", [("torchvision", "squeezenet1_1"), ("torchvision", "mnasnet0_5"), ("timm", "test_efficientnet")])
def test_libraries(tmp_path, name):
    dataset = coloured(tmp_path, 4)
    comes_back(tmp_path, pretrained.import_library(from_library(*name), dataset), dataset)


@pytest.mark.parametrize(("wrong", "said"), [
    (("torchvision", "resent18"), "no classification model 'resent18'; known: resnet18, "),
    (("torchvision", "resnet18", "NOPE"), "'NOPE' is unknown for resnet18; known: IMAGENET1K_V1, DEFAULT"),
    (("torchvision", "resnet18", "DEFAULT"), "have 1000 classes, but .* has 4"),
    (("timm", "lambda_resnet26t"), r"weights of five dimensions \(stages\..*\.weight\), .* not supported; choose"),
    (("torchvision", "inception_v3"), "does not accept images of 3x64x64"),
    (("timm", "resent18"), "timm has no model 'resent18'; known: resnet18, "),
    (("timm", "resnet18.nope"), "timm's resnet18 has no weights 'nope'; known: .*tv_in1k"),
    (("timm", "resnet18", "NOPE"), "'NOPE' is unknown for timm; write DEFAULT"),
    (("timm", "resnet18", "DEFAULT"), "have 1000 classes, but .* has 4"),
])  # fmt: skip
def test_library_models_that_do_not_fit(tmp_path, wrong, said):
    with pytest.raises(UserError, match=said) as error:
        pretrained.import_library(from_library(*wrong), coloured(tmp_path, 4))
    assert len(str(error.value).splitlines()) == 1


def test_timm_may_be_absent(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'dfkd\[timm\]'"):
        pretrained.import_library(from_library("timm", "resnet18"), coloured(tmp_path, 4))


def test_library_weights(tmp_path, monkeypatch):
    """GoogLeNet is built otherwise where weights are given, and must come back as it was."""
    dataset = coloured(tmp_path, 1000)
    torch.manual_seed(0)
    state = torchvision.models.googlenet(weights=None, init_weights=False).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    imported = pretrained.import_library(from_library("torchvision", "googlenet", "DEFAULT"), dataset)
    net = imported.net
    assert net.transform_input
    assert torch.equal(net.conv1.conv.weight, state["conv1.conv.weight"])
    comes_back(tmp_path, imported, dataset)

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=r"cannot be downloaded \(no network\); check the network"):
        pretrained.import_library(from_library("torchvision", "resnet18", "DEFAULT"), dataset)


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.mark.parametrize(("given", "heads", "logged"), [
    ({}, True, "googlenet scales its inputs once more"),
    (IMAGENET, False, "WARNING: mean and std are given, so googlenet does not"),
])  # fmt: skip
def test_a_checkpoint_of_torchvisions_googlenet_scales_its_inputs_as_its_weights_need(tmp_path, given, heads, logged, capsys):
    """transform_input stands in no checkpoint; without it the teacher is silently another one."""
    dataset, path = coloured(tmp_path, 4), tmp_path / "googlenet.pth"
    torch.manual_seed(0)
    own = torchvision.models.googlenet(weights=None, init_weights=False, num_classes=4, aux_logits=heads)
    torch.save(own.state_dict(), path)
    imported = pretrained.import_checkpoint(config(path, arch="torchvision.googlenet", **given), dataset)
    network_file.save(
        tmp_path / "t.safetensors",
        imported.net,
        imported.description,
        "k",
        {},
    )
    assert logged in capsys.readouterr().err
    teacher, images = network_file.load_frozen(tmp_path / "t.safetensors"), torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(IMAGENET[part]).view(-1, 1, 1) for part in ("mean", "std"))
    entered = images * 2 - 1 if logged.startswith("googlenet") else (images - mean) / std
    with torch.no_grad(), hooks.entering(teacher.net.conv1) as seen:
        logits = teacher(images)
        assert torch.allclose(seen[0], entered, atol=1e-5)
        assert torch.allclose(logits, own.eval()(entered), atol=1e-4)


@pytest.mark.parametrize("name", sorted({*names.in_library("torchvision")} & {*registry.REGISTRY}))
def test_a_checkpoint_of_torchvisions_network_for_ours_of_that_name(name):
    """On the meta device: they have up to 140 million weights."""
    described = Description("arch", name, tuple("abcd"), (3, 32, 32), (0.5,) * 3, (0.5,) * 3)
    with torch.device("meta"):
        weights = torchvision.models.get_model(name, weights=None, num_classes=4).state_dict()
        net = build_architecture(name, 4, (3, 32, 32))
    with pytest.raises(UserError, match=rf"x.pth: is torchvision.{name}, .* our {name}; write arch: torchvision.{name}$"):
        pretrained._load(net, weights, Path("x.pth"), described)


@pytest.mark.skipif(not PUBLIC.is_file(), reason="the public ResNet-20 lies outside the repository")
def test_public_resnet20_goes_in(tmp_path):
    arrays = {f"x_{s}": np.zeros((10, 3, 32, 32), np.uint8) for s in ("train", "test")}
    dataset_file.write(
        tmp_path / "d.h5", "k", {}, list("0123456789"), arrays | {f"y_{s}": np.arange(10) for s in ("train", "test")}
    )
    given = groups.ImportTeacher(checkpoint=str(PUBLIC), arch="resnet20", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    imported = pretrained.import_checkpoint(given, dataset_file.open_dataset(tmp_path / "d.h5"))
    net, description = imported.net, imported.description
    assert description.mean == (0.485, 0.456, 0.406)
    assert network_file.sha256(PUBLIC.read_bytes()).startswith("12fca82f")
    assert net.linear.out_features == 10


@pytest.mark.skipif(not TEACHERS.is_dir(), reason="the public ResNet-56 lies outside the repository")
def test_public_resnet56_goes_in_by_other_names(tmp_path):
    images = {f"x_{s}": np.zeros((100, 3, 32, 32), np.uint8) for s in ("train", "test")}
    labels = {f"y_{s}": np.arange(100) for s in ("train", "test")}
    dataset_file.write(tmp_path / "d.h5", "k", {}, [str(number) for number in range(100)], images | labels)
    given = params.load("teacher", "resnet56-cifar100")
    given.checkpoint = str(TEACHERS / "cifar100_resnet56.pth")
    net = pretrained.import_checkpoint(given, dataset_file.open_dataset(tmp_path / "d.h5")).net
    stored = torch.load(given.checkpoint, weights_only=True)
    assert torch.equal(net.layer2[0].shortcut[0].weight, stored["layer2.0.downsample.0.weight"])


def test_a_checkpoint_that_holds_itself_ends(tmp_path):
    circle = {}
    circle["state_dict"] = circle
    torch.save(circle, tmp_path / "circle.pth")
    with pytest.raises(UserError, match="holds no weights"):
        pretrained.read_weights(tmp_path / "circle.pth")


@pytest.mark.parametrize(
    ("builder", "arguments"),
    [
        ("timm", {"checkpoint_path": "history.csv"}),
        ("timm", {"pretrained_cfg": {"url": "http://127.0.0.1:9/x.pth"}, "weights": "y"}),
        ("torchvision", {"weights": "DEFAULT"}),
        ("torchvision", {"aux_logits": "true"}),
        ("torchvision", {"progress": True}),
    ],
)
def test_a_stored_network_hands_no_other_arguments_to_a_library(builder, arguments, monkeypatch):
    monkeypatch.setattr(library, "create", lambda *_, **__: pytest.fail("reached the library"))
    described = Description(builder, "resnet18", ("a", "b"), (3, 32, 32), (0.5,) * 3, (0.5,) * 3, arguments)
    with pytest.raises(UserError, match="is not allowed in a file; import it again"):
        library.build(described)


def test_a_checkpoint_without_weights_names_what_it_holds(tmp_path):
    torch.save({"epoch": 3, "state_dict_ema": {"w": torch.zeros(2)}}, tmp_path / "ema.pth")
    with pytest.raises(UserError, match=r"ema.pth: holds no weights \(.*\), but epoch, state_dict_ema; save net.state_dict"):
        pretrained.read_weights(tmp_path / "ema.pth")


def test_averaged_weights_beside_those_that_are_read_are_named(tmp_path, capsys):
    torch.save({"state_dict": {"a": torch.ones(1)}, "state_dict_ema": {"a": torch.zeros(1)}}, tmp_path / "both.pth")
    assert checkpoint_file.read_weights(tmp_path / "both.pth")["a"] == 1
    assert "state_dict is read, the averaged weights under state_dict_ema are not" in "".join(capsys.readouterr())


def test_weights_of_another_image_size_are_told(tmp_path):
    pytest.importorskip("timm")
    dataset = coloured(tmp_path, 4)
    net = library.create("timm", "test_vit", Description("timm", "test_vit", tuple("abcd"), (3, 32, 32), (0.5,) * 3, (0.5,) * 3))
    torch.save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"pos_embed \(1, 5, 64\) instead .*, or images of the size it was trained on"):
        pretrained.import_checkpoint(groups.ImportTeacher(checkpoint=str(tmp_path / "w.pth"), arch="timm.test_vit"), dataset)


def test_complex_weights_do_not_lose_their_imaginary_part(tmp_path):
    torch.save({"w": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="'w' is sparse, quantised, complex or without values; save it as a plain tensor"):
        pretrained.read_weights(tmp_path / "a.pth")
