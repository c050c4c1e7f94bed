"""A teacher and nothing else: cards, networks by name, teachers cut to some classes, and what is said of wrong ones."""

import contextlib
import dataclasses
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
import weakref
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import small_net
import timm
import torch
import torchvision
from PIL import Image
from told import require_remedy
from torch import nn

from dfkd_steps import cli, new, teacher
from dfkd_steps import dataset as dataset_step
from dfkd_steps.datasets import readers
from dfkd_steps.methods.engines import image_pool
from dfkd_steps.models import head, library, look, names, pretrained
from dfkd_steps.models.checkpoint_file import read_weights
from dfkd_steps.models.classifier import Classifier, Description, build_architecture, new_classifier
from dfkd_steps.pipeline import params, together
from dfkd_steps.reporting import first_try, params_files
from dfkd_steps.runtime import memory
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import fields, groups
from dfkd_steps.storage import dataset_file, kept_networks, network_file, verify


def card(folder, **content):
    """The opened data set of a card."""
    config = groups.Card(**{"source": "card", "height": 8, **content})
    assert config.check() is None
    return written(folder / "dataset.h5", config)


def written(path, config):
    """The opened data set of a config."""
    source = readers.read(config)
    arrays = dataset_step.prepare(config, source)
    dataset_file.write(path, "k", {}, source.classes, arrays, source.keep, source.card)
    return dataset_file.open_dataset(path)


# ---------------------------------------------------------------------------------------------- cards
def test_a_card_has_all_but_images(tmp_path):
    made = card(tmp_path, names=["cat", "dog"], width=6, channels=1, mean=[0.5], std=[0.25])
    assert (made.classes, made.image_shape, made.mean, made.std) == (("cat", "dog"), (1, 8, 6), (0.5,), (0.25,))
    assert (made.has_images, made.sizes, made.has_names, made.keep) == (False, {"train": 0, "test": 0}, True, ())
    assert verify.verify(made.path) == []
    with pytest.raises(UserError, match="is a card and has no images"):
        made.read("test")
    with pytest.raises(UserError, match="is a card and has no images"):
        teacher.train(SimpleNamespace(), made, None, "k", torch.device("cpu"))


def test_classes_of_a_card(tmp_path):
    (tmp_path / "names").write_text("a\nb\n\nc \n")
    assert card(tmp_path, classes=3).classes == ("0", "1", "2")
    assert not card(tmp_path, classes=3).has_names
    assert card(tmp_path, names_file=str(tmp_path / "names")).classes == ("a", "b", "c")
    assert card(tmp_path, names_file=str(tmp_path / "names"), keep=[2, 0]).classes == ("c", "a")
    assert card(tmp_path, names=["x", "y"], keep=[7, 5]).classes == ("x", "y")
    numbered = card(tmp_path, keep=[7, 5], classes=10)
    assert (numbered.classes, numbered.keep, numbered.has_names) == (("7", "5"), (7, 5), False)
    with pytest.raises(UserError, match="has 3 names, but 2 classes in keep"):
        card(tmp_path, names=["x", "y", "z"], keep=[7, 5])
    with pytest.raises(UserError, match="has classes: 4, but 3 classes in keep"):
        readers.read(groups.Card(source="card", height=8, keep=[7, 5, 6], classes=4))
    with pytest.raises(UserError, match="'x' names two classes"):
        card(tmp_path, names=["x", "y", "x"])
    with pytest.raises(UserError, match="only one class"):
        card(tmp_path, names=["x"])


NO_EFFECT = ("train", "test", "val", "sha256", "canaries", "shadow")


@pytest.mark.parametrize(("content", "said"), [
    ({}, "defines no classes"),
    *(({"classes": 3, name: 1}, "a card has no images, so ") for name in NO_EFFECT),
    ({"classes": 3, "mean": [0.5] * 3}, "mean has 3 values and std 0; give 3 each"),
    ({"classes": 3, "keep": [1, 1]}, "keep lists a class twice"),
    ({"names": ["a", "b"], "names_file": "x"}, "give either names or names_file"),
])  # fmt: skip
def test_wrong_cards(content, said):
    assert said in groups.Card(source="card", height=8, **content).check()


@pytest.mark.parametrize("content", [{"classes": 3}, {"names": ["a", "b"]}, {"names_file": "x"}, {"keep": [7, 5]}])
def test_each_way_to_define_the_classes_of_a_card_is_enough(content):
    assert groups.Card(source="card", height=8, **content).check() is None


# ---------------------------------------------------------------------------------------------- networks by name
def test_a_name_is_one_network():
    for spelled, parts in {
        "resnet8": ("arch", "resnet8"),
        "lenet5-half": ("arch", "lenet5-half"),
        "torchvision.resnet18": ("torchvision", "resnet18"),
        "timm.mobilenetv3_small_050": ("timm", "mobilenetv3_small_050"),
        "factory.nets.small.build": ("factory", "nets.small:build"),
    }.items():
        assert names.split(spelled) == parts
        assert names.spelled(*parts) == spelled
        assert spelled in names.Networks()
    for wrong in (
        "resnet9",
        "torchvision.resnet19",
        "timm.nothing",
        "factory.build",
        "factory.",
        "torchvision.",
        "",
        "tensorflow.x",
    ):
        assert wrong not in names.Networks()
    assert "" in names.NetworksOrNone()


def test_what_libraries_have_is_read_without_them():
    assert set(names.in_library("torchvision")) == set(torchvision.models.list_models(module=torchvision.models))
    assert set(timm.list_models()) <= set(names.in_library("timm"))
    program = "import sys; from dfkd_steps.models import names; names.in_library('torchvision'), names.in_library('timm'); "
    done = subprocess.run([sys.executable, "-c", f"{program} print('torch' in sys.modules)"], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_a_wrong_name_is_answered_with_names_of_its_library():
    item = groups.Student.__dataclass_fields__["arch"]
    assert "torchvision.mobilenet_v3_small" in fields.known(item, "torchvision.mobilenet_v3_smal")
    assert "resnet8" in fields.known(item, "resnet9") and "timm.NAME" in fields.known(item, "resnet9")


@pytest.mark.parametrize(("name", "shape"), [
    ("torchvision.mobilenet_v3_small", (3, 40, 56)),
    ("torchvision.squeezenet1_1", (1, 48, 48)),
    ("torchvision.googlenet", (3, 64, 64)),
    ("timm.mobilenetv3_small_050", (1, 32, 48)),
    ("timm.vit_tiny_patch16_224", (3, 64, 64)),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_students_of_libraries(tmp_path, name, shape):
    like = Description("arch", "x", tuple("abcd"), shape, (0.4,) * shape[0], (0.3,) * shape[0])
    made, again, other = (new_classifier(name, like, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one, two) for one, two in zip(made.state_dict().values(), again.state_dict().values()))
    assert any(not torch.equal(one, two) for one, two in zip(made.state_dict().values(), other.state_dict().values()))
    assert made.description.spelled == name
    images = torch.rand(3, *shape)
    made.train()(images).sum().backward()
    made.eval()
    network_file.save(tmp_path / "s.safetensors", made.net, made.description, "k", {})
    with torch.no_grad():
        assert torch.allclose(network_file.load(tmp_path / "s.safetensors")(images), made(images), atol=1e-5)
        kept = kept_networks.from_bytes(network_file.to_bytes(made), "set")
        assert torch.allclose(kept(images), made(images), atol=1e-5)


def test_a_student_that_does_not_take_the_size():
    like = Description("arch", "x", tuple("abcd"), (3, 32, 32), (0.4,) * 3, (0.3,) * 3)
    with pytest.raises(UserError, match="network: alexnet does not accept images of 3x32x32") as error:
        new_classifier("torchvision.alexnet", like, 0)
    assert len(str(error.value).splitlines()) == 1


def test_a_factory_kept_in_a_set_is_run_only_where_the_config_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept_nets.py").write_text(
        "from torch import nn\ndef build(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))\n"
    )
    like = Description("arch", "x", tuple("abcd"), (3, 2, 2), (0.4,) * 3, (0.3,) * 3)
    content = network_file.to_bytes(new_classifier("factory.kept_nets.build", like, 0))
    with pytest.raises(UserError, match="neither a generator"):
        kept_networks.from_bytes(content, "set")
    with pytest.raises(UserError, match="neither a generator"):
        kept_networks.from_bytes(content, "set", trusted="factory.kept_nets.other")
    assert kept_networks.from_bytes(content, "set", trusted="factory.kept_nets.build").description.num_classes == 4


# ---------------------------------------------------------------------------------------------- teachers
def from_library(name, **more):
    return groups.LibraryTeacher(library="torchvision", name=name, **more)


def checkpoint(path, net, **more):
    torch.save(net.state_dict(), path)
    return groups.ImportTeacher(checkpoint=str(path), **more)


@pytest.mark.parametrize("keep", [[9, 2, 5], list(range(12))[::-1]])
def test_a_head_is_cut_to_the_classes_that_count(tmp_path, keep):
    """Also where all are kept in another order, so that no shape tells the head from the rest."""
    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet", num_classes=12).eval()
    config = checkpoint(tmp_path / "a.pth", net, arch="timm.test_efficientnet")
    imported = pretrained.import_checkpoint(config, card(tmp_path, keep=keep, height=32))
    made, description = imported.net, imported.description
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(made(images), net(images)[:, keep], atol=1e-5)
    assert description.mean == tuple(timm.get_pretrained_cfg("test_efficientnet").mean)
    network_file.publish(tmp_path / "t.safetensors", "k", {}, imported, [])
    for cut in (imported, network_file.load_frozen(tmp_path / "t.safetensors")):
        whole, names = head.uncut(cut, "t"), list(map(str, range(12)))
        with torch.no_grad():
            assert torch.allclose(whole.net(images), net(images), atol=1e-5)
        for place, name in zip(keep, description.classes):
            names[place] = name
        assert whole.description.classes == tuple(names) and not any(p.requires_grad for p in whole.parameters())
    with pytest.raises(UserError, match="has 12 classes, 0 to 11, but keep has 12"):
        pretrained.import_checkpoint(config, card(tmp_path, keep=[1, 12], height=32))


class Fixed(nn.Module):
    """Has twelve outputs, however many classes it is asked for."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 12)

    def forward(self, images):
        return self.layer(images.flatten(1))


def test_a_network_that_nothing_can_be_cut_off(monkeypatch):
    """Its outputs were taken in the order of keep, and were in their own."""
    monkeypatch.setattr(head, "build_network", lambda description: Fixed())
    description = Description("factory", "m:fixed", tuple("abcdefghijkl"), (3, 8, 8), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UserError, match=r"a.pth: nothing in it depends on the number of classes, .*; remove keep"):
        head.cut(Fixed().state_dict(), description, range(12)[::-1], "a.pth")


def test_weights_that_do_not_fit_are_not_called_uncuttable(tmp_path):
    """Names that a wrapper has put something before: what is missing is said, and not to remove keep."""
    net = timm.create_model("test_efficientnet", num_classes=12)
    torch.save({f"odd.{name}": value for name, value in net.state_dict().items()}, tmp_path / "a.pth")
    config = groups.ImportTeacher(checkpoint=str(tmp_path / "a.pth"), arch="timm.test_efficientnet")
    with pytest.raises(UserError, match="does not fit test_efficientnet; missing: "):
        pretrained.import_checkpoint(config, card(tmp_path, keep=[9, 2, 5], height=32))


def test_a_teacher_of_ours_that_is_cut_is_a_checkpoint_too(tmp_path):
    net = timm.create_model("test_efficientnet", num_classes=12)
    three = card(tmp_path, keep=[9, 2, 5], height=32)
    cut = pretrained.import_checkpoint(checkpoint(tmp_path / "a.pth", net, arch="timm.test_efficientnet"), three)
    network_file.publish(tmp_path / "t.safetensors", "k", {}, cut, [])
    config = groups.ImportTeacher(checkpoint=str(tmp_path / "t.safetensors"), arch="timm.test_efficientnet")
    again = pretrained.import_checkpoint(config, dataclasses.replace(three, keep=()))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.net(images), cut.net(images)) and again.whole is None


@pytest.mark.parametrize("source", ["npz", "images"])
def test_images_of_some_of_the_teachers_classes(tmp_path, source):
    """In the order of the labels, which is not that of the teacher."""
    if source == "npz":
        images, labels = np.zeros((4, 32, 32, 3), np.uint8), np.array([0, 1, 0, 1])
        np.savez(tmp_path / "two.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
        config = groups.Npz(source="npz", path=str(tmp_path / "two.npz"), keep=[9, 2])
    else:
        for name in ("a", "b"):
            (tmp_path / "two" / name).mkdir(parents=True)
            for row in range(2):
                Image.new("RGB", (32, 32)).save(tmp_path / f"two/{name}/{row}.png")
        config = groups.Images(source="images", path=str(tmp_path / "two"), keep=[9, 2], test_share=0.5)
    assert config.check() is None
    two = written(tmp_path / "dataset.h5", config)
    assert (two.has_images, two.keep, two.has_names) == (True, (9, 2), source == "images")
    net = timm.create_model("test_efficientnet", num_classes=12).eval()
    made = pretrained.import_checkpoint(checkpoint(tmp_path / "a.pth", net, arch="timm.test_efficientnet"), two).net
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(made(images), net(images)[:, [9, 2]], atol=1e-5)
    with pytest.raises(UserError, match=r"two.*: has 2 classes, but keep has 3; give the teacher's class for each"):
        readers.read(dataclasses.replace(config, keep=[9, 2, 5]))
    assert dataclasses.replace(config, keep=[2, 2]).check() == "keep lists a class twice; list each class once"


def test_a_thousand_classes_of_a_library_and_what_it_says_of_them(tmp_path, monkeypatch):
    torch.manual_seed(0)
    whole = torchvision.models.squeezenet1_1()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: whole.state_dict())
    dataset = card(tmp_path, keep=[0, 217], height=64)
    imported = pretrained.import_library(from_library("squeezenet1_1"), dataset)
    made, description = imported.net, imported.description
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(made(images), whole.eval()(images)[:, [0, 217]], atol=1e-5)
    assert description.classes == ("tench", "English springer")
    assert (description.mean, description.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    named = card(tmp_path, keep=[0, 217], height=64, names=["fish", "dog"], mean=[0.5] * 3, std=[0.5] * 3)
    description = pretrained.import_library(from_library("squeezenet1_1"), named).description
    assert (description.classes, description.mean) == (("fish", "dog"), (0.5,) * 3)
    description = pretrained.import_library(from_library("squeezenet1_1", mean=[0.1] * 3, std=[0.2] * 3), named).description
    assert (description.mean, description.std) == ((0.1,) * 3, (0.2,) * 3)


@pytest.mark.parametrize("prefix", ["model.", "net.", "module.model.", "network.", "model._orig_mod."])
def test_prefixes_of_wrappers(tmp_path, prefix, capsys):
    net = build_architecture("resnet8", 4, (3, 8, 8)).eval()
    state = {f"{prefix}{key}": value for key, value in net.state_dict().items()} | {"loss.weight": torch.ones(4)}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2"}, tmp_path / "a.ckpt")
    config = groups.ImportTeacher(checkpoint=str(tmp_path / "a.ckpt"), arch="resnet8")
    made = pretrained.import_checkpoint(config, card(tmp_path, classes=4, mean=[0.5] * 3, std=[0.5] * 3)).net
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(made(images), net(images))
    assert "1 tensors that are not part of the network" in capsys.readouterr().err


def test_counts_that_thop_adds_are_ignored(tmp_path, capsys):
    state = build_architecture("resnet8", 4, (3, 8, 8)).state_dict()
    counts = {"total_ops": torch.zeros(1), "total_params": torch.zeros(1), "module.stem.total_ops": torch.zeros(1)}
    torch.save(state | counts, tmp_path / "a.pth")
    config = groups.ImportTeacher(checkpoint=str(tmp_path / "a.pth"), arch="resnet8")
    sizes = card(tmp_path, classes=4, mean=[0.5] * 3, std=[0.5] * 3)
    made = pretrained.import_checkpoint(config, sizes).net.state_dict()
    assert made.keys() == state.keys() and all(torch.equal(made[name], state[name]) for name in state)
    assert "a.pth: 3 tensors total_ops and total_params, which thop adds, are ignored" in capsys.readouterr().err
    torch.save(state | {"total": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="unexpected: total;"):
        pretrained.import_checkpoint(config, sizes)


REPARAMETERISED = """
import timm
from timm.utils import reparameterize_model
def net(num_classes):
    return reparameterize_model(timm.create_model("repghostnet_050", num_classes=num_classes))
"""


def test_weights_of_a_reparameterised_network_say_what_to_write(tmp_path, monkeypatch):
    net = timm.create_model("repghostnet_050", num_classes=4).eval()
    torch.save(timm.utils.reparameterize_model(net).state_dict(), tmp_path / "a.pth")
    sizes = card(tmp_path, classes=4, height=64, mean=[0.0] * 3, std=[1.0] * 3)
    config = groups.ImportTeacher(checkpoint=str(tmp_path / "a.pth"), arch="timm.repghostnet_050")
    factory = "reparameterize_model(timm.create_model('repghostnet_050', num_classes=num_classes))"
    with pytest.raises(UserError, match=re.escape(factory)):
        pretrained.import_checkpoint(config, sizes)
    (tmp_path / "merged_layers.py").write_text(REPARAMETERISED)
    monkeypatch.syspath_prepend(tmp_path)
    config = groups.ImportTeacher(checkpoint=str(tmp_path / "a.pth"), factory="merged_layers:net")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(pretrained.import_checkpoint(config, sizes).net(images), net(images), atol=1e-4)
    del (state := net.state_dict())["conv_stem.weight"]
    torch.save(state, tmp_path / "a.pth")
    config = groups.ImportTeacher(checkpoint=str(tmp_path / "a.pth"), arch="timm.repghostnet_050")
    with pytest.raises(UserError, match="choose the architecture"):
        pretrained.import_checkpoint(config, sizes)


TWO_HEADS = """
from torch import nn
class Net(nn.Module):
    def __init__(self, num_classes, both):
        super().__init__()
        self.classifier = nn.Conv2d(3, num_classes, 1)
        if both:
            self.aux_classifier = nn.Conv2d(3, num_classes, 1)
    def forward(self, images):
        return {"out": self.classifier(images)}
def both(num_classes):
    return Net(num_classes, True)
def single(num_classes):
    return Net(num_classes, False)
"""


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("factory", ["both", "single"])
def test_the_second_head_of_a_segmentation_network_is_read_where_the_network_has_it(tmp_path, monkeypatch, factory, prefix):
    """As of torchvision's deeplabv3_resnet50(aux_loss=True): its weights were missing, though the file has them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two_heads.py").write_text(TWO_HEADS)
    state = {f"{prefix}{head}classifier.weight": torch.full((4, 3, 1, 1), 2.0) for head in ("", "aux_")}
    state |= {f"{prefix}{head}classifier.bias": torch.arange(4.0) for head in ("", "aux_")}
    torch.save(state, "a.pth")
    config = groups.ImportTeacher(checkpoint="a.pth", factory=f"two_heads:{factory}")
    dataset = card(tmp_path, classes=4, task="segmentation", mean=[0.5] * 3, std=[0.5] * 3)
    made = pretrained.import_checkpoint(config, dataset).net.state_dict()
    assert len(made) == (4 if factory == "both" else 2) and all((made[name] == state[prefix + name]).all() for name in made)


def test_a_label_map_has_room_for_254_classes(tmp_path, monkeypatch):
    """Labels are uint8, and 255 is void: of 300 classes those of the last would be stored as others."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two_heads.py").write_text(TWO_HEADS)
    for classes in (254, 255):
        state = {"classifier.weight": torch.zeros(classes, 3, 1, 1), "classifier.bias": torch.zeros(classes)}
        torch.save(state, "a.pth")
        config = groups.ImportTeacher(checkpoint="a.pth", factory="two_heads:single")
        dataset = card(tmp_path, classes=classes, task="segmentation", mean=[0.5] * 3, std=[0.5] * 3)
        if classes == 254:
            assert pretrained.import_checkpoint(config, dataset).description.num_classes == 254
        else:
            with pytest.raises(UserError, match=r"dataset.h5: has 255 classes, but maps have a byte .*; give at most 254"):
                pretrained.import_checkpoint(config, dataset)


def test_a_network_whose_own_names_begin_so_keeps_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, num_classes):\n        super().__init__()\n"
        "        self.model = nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))\n"
        "    def forward(self, x):\n        return self.model(x)\n"
    )
    torch.save({"model.1.weight": torch.zeros(4, 192), "model.1.bias": torch.arange(4.0)}, "a.pth")
    config = groups.ImportTeacher(checkpoint="a.pth", factory="own_nets:Net")
    made = pretrained.import_checkpoint(config, card(tmp_path, classes=4, mean=[0.5] * 3, std=[0.5] * 3)).net
    assert made(torch.rand(1, 3, 8, 8)).argmax() == 3


# ---------------------------------------------------------------------------------------------- wrong uses
def scripted(path):
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)


def exported_program(path):
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), path)


def hostile_program(path):
    """An exported program whose weight is a pickle that makes the folder ``ran`` beside the file."""

    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(path.parent / "ran"),)

    exported_program(path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = next(name for name in content if name.endswith("model_weights_config.json"))
    content[config] = content[config].replace(b'"use_pickle": false', b'"use_pickle": true')
    pickled = io.BytesIO()
    torch.save(Runs(), pickled)
    content[next(name for name in content if name.endswith("weight_0"))] = pickled.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)


def test_reading_an_exported_program_could_run_code_so_it_is_refused(tmp_path):
    """Where the first half fails, torch.export.load has become safe, and such files can be read."""
    ran = tmp_path / "ran"
    hostile_program(tmp_path / "a.pt2")
    with contextlib.suppress(Exception):
        torch.export.load(tmp_path / "a.pt2")
    assert ran.is_dir()
    ran.rmdir()
    with pytest.raises(UserError, match="is an exported program"):
        read_weights(tmp_path / "a.pt2")
    assert not ran.exists()


FOREIGN = {
    "a.pt": (scripted, "is TorchScript, which contains code and is never run; save its weights"),
    "a.pt2": (exported_program, "is an exported program, and reading one can run code.*save its weights"),
    "a.h5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), r"is HDF5 \(from Keras\?\).*tf2onnx"),
    "a.tflite": (lambda path: path.write_bytes(b"\x20\0\0\0TFL3" + bytes(100)), "is a TFLite file.*tf2onnx"),
    "a.bin": (
        lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(100)),
        "is an ONNX file; give its name the ending .onnx",
    ),
    "b.pth": (
        lambda path: torch.save(nn.Linear(2, 2), path),
        r"pickled code \(torch.nn.modules.linear.Linear\).*save the weights",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.filterwarnings("ignore")
def test_files_that_are_no_checkpoint_are_told_apart(tmp_path, name):
    make, said = FOREIGN[name]
    make(tmp_path / name)
    with pytest.raises(UserError, match=said) as error:
        read_weights(tmp_path / name)
    require_remedy(str(error.value))


FACTORIES = """
import torch
from torch import nn
class Pair(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.a = nn.Linear(192, num_classes)
    def forward(self, x):
        return self.a(x.flatten(1)), x
class Map(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.a = nn.Conv2d(3, num_classes, 1)
    def forward(self, x):
        return self.a(x)
def soft(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes), nn.Softmax(1))
def large(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 11), nn.Flatten(), nn.Linear(4, num_classes))
def no_argument():
    return soft(4)
"""
NORM = {"mean": [0.5] * 3, "std": [0.5] * 3}
WRONG = {
    "another number of classes": ({"arch": "resnet8"}, {"classes": 7}, "has 4 classes, but the data set has 7; choose .*keep"),
    "no normalisation": ({"arch": "resnet8"}, {"mean": [], "std": []}, "gives mean and std; give those that it was trained with"),
    "grey for colour": ({"arch": "resnet8"}, {"channels": 1, "mean": [], "std": []} | {"own": NORM}, "have 3 values, but images"),
    "a class too many to keep": ({"arch": "resnet8"}, {"keep": [0, 4]}, "has 4 classes, 0 to 3, but keep has 4"),
    "our name for torchvision's": (
        {"arch": "resnet18", "of": "torchvision"}, {}, "is torchvision.resnet18, a different network from our .*write arch",
    ),
    "another architecture": ({"arch": "resnet20"}, {}, "does not fit resnet20; missing: .* choose the architecture"),
    "a size that is too small": ({"factory": "large"}, {}, "large does not accept images of 3x8x8"),
    "two outputs": ({"factory": "Pair"}, {}, "returns a tuple for one image, .* it is not an image classifier"),
    "a map of labels": ({"factory": "Map"}, {}, "returns outputs of shape .* it is not an image classifier"),
    "a factory without classes": ({"factory": "no_argument"}, {}, "no_argument' failed: TypeError"),
    "a factory that is not there": ({"factory": "nothing"}, {}, "nothing' failed: AttributeError"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_teachers_that_do_not_fit_are_one_line(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong_nets.py").write_text(FACTORIES)
    given, content, said = WRONG[case]
    given, content = dict(given), {"classes": 4, **NORM, **content}
    if "keep" in content:
        del content["classes"]
    own = content.pop("own", {})
    if "factory" in given:
        given["factory"] = f"wrong_nets:{given['factory']}"
    nets = {"Map": "a.weight", "Pair": "a.weight"}
    net = torchvision.models.resnet18(num_classes=4) if given.pop("of", "") else build_architecture("resnet8", 4, (3, 8, 8))
    if (name := given.get("factory", "").partition(":")[2]) in (*nets, "large"):
        module = importlib.util.spec_from_file_location("w", "wrong_nets.py")
        loaded = importlib.util.module_from_spec(module)
        module.loader.exec_module(loaded)
        net = getattr(loaded, name)(4)
    config = checkpoint(tmp_path / "a.pth", net, **given, **own)
    with pytest.raises(UserError, match=said) as error:
        pretrained.import_checkpoint(config, card(tmp_path, **content))
    require_remedy(str(error.value))


def test_a_softmax_at_the_end_of_a_factory_is_found(tmp_path, monkeypatch):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Softmax(1))
    with pytest.raises(UserError, match="returns probabilities, so it ends in a softmax; make it return its logits"):
        look.look(small_net.wrap(net, (3, 8, 8), 4))
    assert look.look(small_net.wrap(net[:2], (3, 8, 8), 4))


# ---------------------------------------------------------------------------------------------- a look at a teacher
def normalised(mean, std, seed=0):
    """A network with BatchNorm statistics of images of scenes and leaves, normalised in one way, described in that way."""
    torch.manual_seed(seed)
    made = small_net.wrap(build_architecture("resnet8", 4, (3, 32, 32)), (3, 32, 32), 4, mean=mean, std=std)
    drawn = look.draw(made.description)
    made.net.train()
    with torch.no_grad():
        for _ in range(60):
            made(torch.cat([drawn[kind] for kind in look.NATURAL]))
    return made.eval()


@pytest.mark.parametrize("right", range(4))
def test_a_wrong_normalisation_is_doubted(right):
    (mean, std), (other, deviation) = look.COMMON[3][right], look.COMMON[3][(right + 1) % 4]
    made = normalised(mean, std)
    assert look.doubt(made) is None
    described = Description("arch", "resnet8", tuple("abcd"), (3, 32, 32), other, deviation)
    said = look.doubt(Classifier(made.net, described).eval())
    near = max(abs(a - b) for a, b in zip((*mean, *std), (*other, *deviation))) < 0.1
    assert (said is None) == near
    assert near or f"mean {[round(one, 4) for one in mean]}" in said


def test_a_look_says_what_a_teacher_does(tmp_path):
    made = normalised(*look.COMMON[3][1])
    lines = look.look(made)
    assert [line.split()[1] for line in lines[:5]] == list(look.KINDS[3])
    assert lines[5] == "7 BatchNorm layers with statistics"
    constant = small_net.wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), (1, 8, 8), 3)
    constant.net[1].weight.zero_(), constant.net[1].bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
    lines = look.look(constant)
    assert all("mean confidence 1.00, 1 of 3 classes predicted, 1 for 32 of 32" in line for line in lines[:5])
    assert lines[5] == "no BatchNorm statistics, which some methods need"


@pytest.mark.parametrize(("arch", "number"), [("resnet8", 32), ("unet-tiny", 32 * 16 * 24)])
def test_a_look_goes_piece_by_piece_where_images_are_large(arch, number, monkeypatch):
    """The logits of 160 images of 480 x 640 pixels and 40 classes are 8 GB."""
    teacher, alive, most = small_net.classifier(arch, (3, 16, 24), 5), weakref.WeakSet(), []
    described = dataclasses.replace(teacher.description, mean=(0.0,) * 3, std=(0.02,) * 3)  # which is doubted
    teacher = Classifier(teacher.net, described).eval()
    monkeypatch.delenv("DFKD_MEMORY", raising=False)
    lines = look.look(teacher)
    assert len(lines) == 7 and all(line.endswith(f" of {number}") for line in lines[:5])
    drawn = look.draw(described)  # in pieces from one generator, which are other images
    monkeypatch.setattr(look, "draw", lambda description: drawn)

    def count(module, images, logits):
        alive.add(logits)
        most.append((len(images[0]), sum(len(one) for one in alive)))

    teacher.register_forward_hook(count)
    monkeypatch.setattr(memory, "VALUES", 3 * 3 * 16 * 24)
    assert look.look(teacher) == lines
    assert len(most) == 5 * 11 and max(most) == (3, 6)


@pytest.mark.parametrize(("together", "number"), [(40, 32), (5, 5), (1, 4)])
def test_a_look_draws_fewer_images_where_they_are_large(monkeypatch, together, number):
    """160 of 1024 x 2048 pixels are 4 GB, which no setting made less."""
    described = small_net.classifier("unet-tiny", (3, 16, 24), 5).description
    monkeypatch.setattr(memory, "VALUES", together * 3 * 16 * 24)
    assert {len(images) for images in look.draw(described).values()} == {number}


def test_a_normalisation_is_doubted_by_what_enters_the_first_layer_alone():
    """All that enters the layers of a ResNet-50 for maps of 180 x 240 pixels is 3 GB for 23 images."""
    made, entered = small_net.classifier("unet-tiny", (3, 16, 24), 5), []
    first, second, *_ = (layer for layer in made.net.modules() if isinstance(layer, nn.BatchNorm2d))
    for number, layer in enumerate((first, second)):
        layer.register_forward_hook(lambda *_, number=number: entered.append(number))
    look.doubt(made)
    assert not entered
    with torch.no_grad():
        layer, inputs = look._first_norm(made, torch.rand(2, 3, 16, 24))
        made(torch.rand(2, 3, 16, 24))
    assert layer is first and len(inputs) == 2 and entered == [0, 1]  # and no hook stays
    made.net.forward = lambda images: images[:, :1].expand(-1, 5, -1, -1)
    assert look.doubt(made) is None  # its layers are not used


def test_a_teacher_is_measured_where_there_are_test_images(tmp_path, capsys):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 128, (40, 1, 8, 8), np.uint8)
    labels = np.arange(40) % 2
    images[labels == 1] += 100
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    dataset_file.write(tmp_path / "d.h5", "k", {}, ["dark", "light"], arrays)
    dataset = dataset_file.open_dataset(tmp_path / "d.h5")
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        net[1].weight[0], net[1].weight[1], net[1].bias = -1, 1, nn.Parameter(torch.tensor([28.5, -28.5]))
    right = small_net.wrap(net, (1, 8, 8), 2, mean=(0.0,), std=(1.0,))
    teacher.inspect(right, dataset, torch.device("cpu"))
    assert "predicts 100.00 % of 40 test images correctly" in (said := capsys.readouterr().err) and "chance" not in said
    turned = nn.Sequential(net[0], nn.Linear(64, 2))
    with torch.no_grad():
        turned[1].weight.copy_(-net[1].weight), turned[1].bias.copy_(-net[1].bias)
    teacher.inspect(small_net.wrap(turned, (1, 8, 8), 2, mean=(0.0,), std=(1.0,)), dataset, torch.device("cpu"))
    assert "hardly better than chance" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- before anything runs
@pytest.mark.parametrize(("transfer", "balance", "student", "said"), [
    ("fast-5", "none", "resnet8-inside", "a resnet8, but the method of this set trains a wrn16-1; write fast-5+student=resnet8"),
    ("noise", "none", "resnet8-inside", "but the method of this set trains no student; set init: random, or use a method"),
    ("noise", "none", "resnet8+sampling=given", "sampling: given needs weights, which balance 'none' does not provide"),
    ("noise", "weight", "resnet8+sampling=given", None),
    ("fast-5+student=resnet8", "none", "resnet8-inside", None),
])  # fmt: skip
def test_what_cannot_go_together_is_known_before(repository, monkeypatch, transfer, balance, student, said):
    monkeypatch.chdir(repository)
    found = together.faults({"transfer": transfer, "balance": balance, "student": student})
    assert (found == []) if said is None else (len(found) == 1 and said in found[0])


# ---------------------------------------------------------------------------------------------- dfkd new
def make_new(folder, *more, size="32x32"):
    given = ["mine", "--student", "torchvision:mobilenet_v3_small", "--size", size, *more]
    return new.run(given)


@pytest.fixture
def workplace(for_new):
    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet", num_classes=6)
    torch.save(net.state_dict(), "a.pth")
    return for_new


@pytest.mark.parametrize("argv", [["--help"], [], ["mine", "--teacher", "lenet5", "--student", "resnet8", "--channels", "2"]])
def test_new_says_at_once_how_it_is_called(monkeypatch, capsys, argv):
    monkeypatch.setattr(new, "run_guarded", lambda *_, **__: pytest.fail("torch is loaded for this"))
    with pytest.raises(SystemExit):
        new.main(argv)
    assert "inspecting the teacher" not in (said := capsys.readouterr()).out + said.err


@pytest.mark.filterwarnings("ignore")
def test_new_writes_params_that_fit(workplace, capsys):
    how = ["--teacher", "timm:test_efficientnet", "--checkpoint", "a.pth"]
    make_new(workplace, *how, "--classes", "a,b,c,d,e,f", "--keep", "5,1", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    said = capsys.readouterr().out
    student, taught = params.load("student", "mine"), params.load("teacher", "mine")
    assert (student.arch, taught.arch, taught.checkpoint) == ("torchvision.mobilenet_v3_small", "timm.test_efficientnet", "a.pth")
    assert (params.load("dataset", "mine").keep, params.load("dataset", "mine").mean) == ([5, 1], [0.5] * 3)
    assert "2 classes, images 3x32x32" in said and re.search(r"2 classes predicted, [bf] for \d+ of 32\n", said)
    assert re.search(
        r"\n  fast            fits, preset fast-2 \([\d,]+ images, [\d,]+ steps, at least [\d.]+ [MG]iB of memory", said
    )
    assert re.search(r" in (fp32|bf16), on one core", said)
    assert (student.optimizer, student.select, student.sampling) == ("soap", "agreement", "uniform")
    place = "results/mine/mine/procedural+batch=50+kind=scenes+n=20000/none/mine"
    assert f"snakemake {place}/metrics.json" in said and f"its progress: column agreement of {place}/history.csv" in said
    with pytest.raises(UserError, match=r"params/dataset/mine.yaml: already exists"):
        make_new(workplace, *how)


@pytest.mark.filterwarnings("ignore")
def test_new_takes_a_teacher_of_grey_images(workplace, capsys):
    """The kind of drawings for them is the one that their preset has, which a spec must not name."""
    torch.save(build_architecture("lenet5", 3, (1, 28, 28)).state_dict(), "grey.pth")
    how = ["grey", "--teacher", "lenet5", "--checkpoint", "grey.pth", "--classes", "a,b,c", "--size", "28", "--channels", "1"]
    new.run([*how, "--mean", "0.1", "--std", "0.3", "--student", "lenet5-half"])
    place = re.search(r"snakemake (results/\S+/procedural\S+/none/grey)/metrics.json", capsys.readouterr().out)[1]
    drawn = params.load("transfer", place.split("/")[3])
    assert (drawn.kind, drawn.n, drawn.batch) == ("strokes", 20_000, first_try.DRAWN_AT_ONCE)
    assert params.load("dataset", "grey").channels == 1


@pytest.mark.filterwarnings("ignore")
def test_new_prints_the_measurement_on_test_images_and_it_runs(workplace, capsys):
    for number in range(6):
        folder = workplace / "te st" / f"c{number}"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((40, 50, 3), 40 * number, np.uint8)).save(folder / "a.png")
    how = ["--teacher", "timm:test_efficientnet", "--checkpoint", "a.pth", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]
    make_new(workplace, *how, "--classes", "c0,c1,c2,c3,c4,c5", "--test", "te st")
    said = capsys.readouterr().out
    command = shlex.split(next(line for line in said.splitlines() if line.startswith("  dfkd evaluate ")))
    assert "only the last command reads the 6 images of te st" in said
    made = Description("timm", "test_efficientnet", tuple(f"c{n}" for n in range(6)), (3, 32, 32), (0.5,) * 3, (0.5,) * 3)
    for path in (workplace / command[2], workplace / "results/mine/mine/teacher.safetensors"):
        path.parent.mkdir(parents=True, exist_ok=True)
        network_file.save(path, library.build(made), made, "k", {})
    assert cli.main(command[1:]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["teacher", "6"], ["student.safetensors", "6"]] and "top-1" in lines[0]


def test_new_takes_more_names_than_a_file_name_has_characters():
    names = [f"a rather long class name {number}" for number in range(100)]
    assert params_files._classes(", ".join(names), "arch", "resnet20") == {"names": names}


WRONG_NEW = {
    "no weights": (["--teacher", "resnet20"], "--teacher: resnet20 has no weights of its own; give --checkpoint FILE"),
    "a network that there is not": (["--teacher", "nonet"], "--teacher: 'nonet' is no network; .*known: "),
    "one class": (["--teacher", "timm:test_efficientnet", "--classes", "names.txt"], "'names.txt' is neither a number"),
    "a class without a name": (["--teacher", "timm:test_efficientnet", "--classes", "cat,dog,"], "'cat,dog,' is neither"),
    "weights beside an ONNX file": (
        ["--teacher", "x.onnx", "--checkpoint", "a.pth", "--task", "classification"],
        "--checkpoint: an ONNX file holds its weights; leave it out",
    ),
    "a size that no image has": (
        ["--teacher", "timm:test_efficientnet", "--checkpoint", "a.pth", "--size", "5000"],
        "^params/dataset/mine.yaml: height: 5000 is above 4096",
    ),
    "a factory without weights": (["--teacher", "nets:build"], "has no weights of its own; give --checkpoint FILE"),
    "names for weights of a library": (
        ["--teacher", "timm:test_efficientnet", "--rename", "fc=head"], "--rename: applies to the weights in a --checkpoint only",
    ),
    "names that no weight has": (
        ["--teacher", "timm:test_efficientnet", "--checkpoint", "a.pth", "--mean", "0,0,0", "--std", "1,1,1", "--rename", "x=y"],
        "rename: x=y: no weight has 'x' in its name",
    ),
    "a size that is none": (
        ["--teacher", "timm:test_efficientnet", "--checkpoint", "a.pth", "--size", "big"], "'big' is not a size",
    ),
    "numbers that are none": (
        ["--teacher", "timm:test_efficientnet", "--checkpoint", "a.pth", "--keep", "cat"], "--keep: 'cat' is not a list of",
    ),
    "a checkpoint that is not there": (
        ["--teacher", "timm:test_efficientnet", "--checkpoint", "b.pth"], "b.pth: no such checkpoint",
    ),
    "a library that is not known": (
        ["--teacher", "torchvision:resnet19", "--checkpoint", "a.pth"], "did you mean torchvision.resnet",
    ),
    "test images of other classes": (
        ["--teacher", "timm:test_efficientnet", "--checkpoint", "a.pth", "--mean", "0,0,0", "--std", "1,1,1", "--test", "."],
        r"\.: has \d folders, but the student has 6 classes; name each folder after a class",
    ),
    "test images that are not there": (
        ["--teacher", "timm:test_efficientnet", "--checkpoint", "a.pth", "--test", "nowhere"], "--test: nowhere: no such folder",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_NEW)
@pytest.mark.filterwarnings("ignore")
def test_new_writes_nothing_where_something_is_wrong(workplace, case):
    given, said = WRONG_NEW[case]
    with pytest.raises(UserError, match=said) as error:
        make_new(workplace, "--classes", "6", *given)
    require_remedy(str(error.value))
    assert not list(workplace.glob("params/*/mine.yaml"))


@pytest.mark.parametrize(("side", "optimizer"), [(1024, "soap"), (1025, "adamw")])
def test_networks_with_large_weights_are_trained_by_adamw(side, optimizer):
    assert params_files.settings(nn.Linear(4, side))["optimizer"] == optimizer


def test_costs_are_those_of_the_faster_precision(workplace, monkeypatch, capsys):
    seconds = {"fp32": 0.128, "bf16": 0.064}
    monkeypatch.setattr(first_try, "_step", lambda *how: seconds[how[-1]])
    how = ["--teacher", "timm:test_efficientnet", "--checkpoint", "a.pth", "--classes", "6"]
    make_new(workplace, *how, "--mean", "0,0,0", "--std", "1,1,1")
    assert "precision: bf16\n" in (workplace / "params/student/mine.yaml").read_text()
    assert "about 7 min in bf16" in capsys.readouterr().out  # 20,000 images in 20 epochs, 64 a step


def test_methods_that_need_batchnorm_say_so(workplace):
    plain = small_net.wrap(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)), (3, 32, 32), 3
    )
    found = {method: why for method, _, why in first_try.fitting(plain, "resnet8")}
    assert "bn=0" in found["fast"] and "bn" in found["deepinversion"]
    assert (found["zskd"], found["dafl"], found["procedural"]) == ("", "", "")


def test_methods_are_tried_without_room_for_all_their_images(monkeypatch):
    """A pool of 160,000 images of 224 x 224 takes 24 GB: what it takes is reckoned, and not taken."""
    large, held = small_net.wrap(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)), (3, 224, 224), 3), []
    kept = image_pool.ImagePool.__init__
    monkeypatch.setattr(image_pool.ImagePool, "__init__", lambda self, n, *how: held.append(n) or kept(self, n, *how))
    monkeypatch.setattr(first_try.memory, "most", lambda: 10 << 30)
    found = {method: why for method, _, why in first_try.fitting(large, "resnet8")}
    assert held and max(held) <= 1024
    assert found["nayer"].startswith("needs ") and found["procedural"] == ""


def test_an_absent_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'dfkd\[timm\]'"):
        library.build(Description("timm", "resnet18", ("a", "b"), (3, 32, 32), (0.5,) * 3, (0.5,) * 3))
