"""Networks from elsewhere: every form of checkpoint goes in, nothing else does."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dfkd_steps import data, foreign, groups, models, networks, training
from dfkd_steps.errors import UserError

PUBLIC = Path(__file__).parents[3] / "shared/data/teachers/resnet20-12fca82f.th"


@pytest.fixture
def dataset(tmp_path):
    arrays = {f"x_{s}": np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), np.uint8) for s in ("train", "test")}
    data.write(tmp_path / "dataset.h5", "k", {}, list("0123456789"), arrays | {f"y_{s}": np.arange(20) % 10 for s in ("train", "test")})
    return data.open_dataset(tmp_path / "dataset.h5")


@pytest.fixture
def net():
    torch.manual_seed(5)
    return models.build("lenet5", 10, (1, 28, 28))


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
    made, description = foreign.import_checkpoint(config(path), dataset)
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(made(images), net(images))
    assert description.mean == dataset.mean and description.classes == dataset.classes
    out = tmp_path / "teacher.safetensors"
    networks.save(out, made, description, "key", {})
    first = out.read_bytes()
    networks.save(out, made, description, "key", {})
    assert out.read_bytes() == first
    again = networks.load_frozen(out)
    with torch.no_grad():
        expected = net((images - torch.tensor(dataset.mean).view(-1, 1, 1)) / torch.tensor(dataset.std).view(-1, 1, 1))
        assert torch.allclose(again(images), expected, atol=1e-5)
    assert not again.training and not any(p.requires_grad for p in again.parameters())


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_pickled_code_is_refused(tmp_path, dataset, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "bare.pth"):
        with pytest.raises(UserError, match="pickled code") as error:
            foreign.import_checkpoint(config(tmp_path / name), dataset)
        assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "executed").exists()


def test_what_does_not_fit_is_named(tmp_path, dataset, net):
    state = net.state_dict()
    name = next(iter(state))
    torch.save({**state, "extra": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="unexpected: extra"):
        foreign.import_checkpoint(config(tmp_path / "a.pth"), dataset)
    torch.save({key: value for key, value in state.items() if key != name}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"missing: {name}"):
        foreign.import_checkpoint(config(tmp_path / "a.pth"), dataset)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"{name} \(6, 1, 5, 5\) instead of \(3, 1, 5, 5\)"):
        foreign.import_checkpoint(config(tmp_path / "a.pth", arch="lenet5-half"), dataset)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_files(tmp_path, dataset, content, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        foreign.import_checkpoint(config(path), dataset)
    assert str(path) in str(error.value) and len(str(error.value).splitlines()) == 1


def test_missing_pinned_and_empty(tmp_path, dataset, net):
    with pytest.raises(UserError, match="no such checkpoint"):
        foreign.import_checkpoint(config(tmp_path / "none.pth"), dataset)
    path = tmp_path / "a.pth"
    torch.save(net.state_dict(), path)
    with pytest.raises(UserError, match="sha256"):
        foreign.import_checkpoint(config(path, sha256="0" * 64), dataset)
    foreign.import_checkpoint(config(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest()), dataset)
    torch.save({"epoch": 3}, path)
    with pytest.raises(UserError, match="holds no weights"):
        foreign.import_checkpoint(config(path), dataset)


def test_factory(tmp_path, dataset, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\ndef net(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))\n"
        "def seven(num_classes):\n    return net(7)\ndef none(num_classes):\n    return 3\n"
    )
    torch.save({"1.weight": torch.zeros(10, 784), "1.bias": torch.arange(10.0)}, "linear.pth")
    made, description = foreign.import_checkpoint(config("linear.pth", arch="", factory="my_nets:net"), dataset)
    assert made(torch.rand(1, 1, 28, 28)).argmax() == 9
    networks.save("t.safetensors", made, description, "k", {})
    assert networks.load("t.safetensors")(torch.rand(1, 1, 28, 28)).argmax() == 9
    for factory, said in (("my_nets", "not package.module:function"), ("nowhere:net", "No module named"), ("my_nets:none", "returned a int")):
        with pytest.raises(UserError, match=said):
            foreign.import_checkpoint(config("linear.pth", arch="", factory=factory), dataset)
    torch.save({"1.weight": torch.zeros(7, 784), "1.bias": torch.zeros(7)}, "seven.pth")
    with pytest.raises(UserError, match="has 10 classes"):
        foreign.import_checkpoint(config("seven.pth", arch="", factory="my_nets:seven"), dataset)


@pytest.mark.parametrize(("library", "name"), [("torchvision", "squeezenet1_1"), ("timm", "test_efficientnet")])
def test_libraries(tmp_path, library, name):
    arrays = {f"x_{s}": np.random.default_rng(0).integers(0, 256, (8, 3, 64, 64), np.uint8) for s in ("train", "test")}
    data.write(tmp_path / "d.h5", "k", {}, list("abcd"), arrays | {f"y_{s}": np.arange(8) % 4 for s in ("train", "test")})
    dataset = data.open_dataset(tmp_path / "d.h5")
    net, description = foreign.import_library(groups.LibraryTeacher(library=library, name=name, weights=""), dataset)
    networks.save(tmp_path / "t.safetensors", net, description, "k", {})
    images = torch.rand(2, 3, 64, 64)
    shown = (images - torch.tensor(dataset.mean).view(-1, 1, 1)) / torch.tensor(dataset.std).view(-1, 1, 1)
    assert torch.allclose(networks.load(tmp_path / "t.safetensors")(images), net(shown), atol=1e-4)
    with pytest.raises(UserError, match="has no"):
        foreign.import_library(groups.LibraryTeacher(library=library, name="resnet1000000", weights=""), dataset)


@pytest.mark.skipif(not PUBLIC.is_file(), reason="the public ResNet-20 lies outside the repository")
def test_public_resnet20_goes_in(tmp_path):
    arrays = {f"x_{s}": np.zeros((10, 3, 32, 32), np.uint8) for s in ("train", "test")}
    data.write(tmp_path / "d.h5", "k", {}, list("0123456789"), arrays | {f"y_{s}": np.arange(10) for s in ("train", "test")})
    given = groups.ImportTeacher(checkpoint=str(PUBLIC), arch="resnet20", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    net, description = foreign.import_checkpoint(given, data.open_dataset(tmp_path / "d.h5"))
    assert description.mean == (0.485, 0.456, 0.406) and training.sha256(PUBLIC.read_bytes()).startswith("12fca82f")
    assert net.linear.out_features == 10
