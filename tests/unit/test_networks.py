"""Networks as bytes and beside a transfer set: round trips, foreign bytes, hostile descriptions."""

import dataclasses
import json
import struct
import sys

import h5py
import numpy as np
import pytest
import small_net
import torch
from safetensors.torch import load, load_file, save_file
from small_net import CPU, classifier, close
from torch import nn

from dfkd_steps import balance, cli
from dfkd_steps.models.classifier import misfit_of
from dfkd_steps.models.generator import build_generator
from dfkd_steps.pipeline.job import Job
from dfkd_steps.reporting import inspect
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import kept_networks, network_file, set_layout, verify
from dfkd_steps.storage.transfer_set import TransferSet


def rng(**how):
    described = classifier().description
    return build_generator(described, **{"latent": 4, "width": 4, "arch": "dfad", "classes": (0, 3), "seed": 1, **how})


def equal(one, other):
    assert list(one.state_dict()) == list(other.state_dict())
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_images_of_0_to_255_are_refused_where_their_type_tells():
    made = classifier()
    with pytest.raises(
        UserError, match=r"images: have the type torch.uint8; give floating-point values in \[0, 1\]: images.float\(\) / 255"
    ):
        made(torch.zeros(2, *made.description.image_shape, dtype=torch.uint8))


def test_a_classifier_comes_back():
    made = classifier(seed=3)
    content = network_file.to_bytes(made)
    again = kept_networks.from_bytes(content, "here")
    assert equal(made, again) and again.description == made.description
    images = torch.rand(4, 1, 8, 8)
    close(again(images), made(images))
    assert not again.training and not any(one.requires_grad for one in again.parameters())
    assert network_file.to_bytes(again) == content


def test_weights_that_are_tied_come_back(tmp_path):
    """They share memory, which safetensors refuses; so do those of the last snapshot, kept by name."""
    made = classifier("lenet5-half", (1, 28, 28))
    bias = [layer for layer in made.net.modules() if isinstance(layer, nn.Linear)][-1].bias
    made.net.register_parameter("tied", bias)
    made.snapshots = {8: made.net.state_dict()}
    network_file.save(tmp_path / "x.safetensors", made.net, made.description, "k", {}, made.snapshots)
    for content in (network_file.to_bytes(made), (tmp_path / "x.safetensors").read_bytes()):
        weights = load(content)
        assert torch.equal(weights["tied"], bias) and torch.equal(weights["snapshot/8/tied"], bias)


@pytest.mark.parametrize("how", [{}, {"classes": (), "arch": "cmi"}])
def test_a_generator_comes_back(how):
    made = rng(**how)
    made(*made.draw(8, None))  # moves its statistics
    content = network_file.to_bytes(made)
    again = kept_networks.from_bytes(content, "here")
    assert equal(made, again) and again.description == made.description
    drawn, _ = again.sample(3, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, made.eval().sample(3, torch.Generator().manual_seed(0))[0])
    assert network_file.to_bytes(again) == content


def altered(network, **changes):
    """The bytes of a network whose description says something else."""
    content = network_file.to_bytes(network)
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    told = json.loads(header["__metadata__"]["dfkd"])
    for name, value in changes.items():
        if name in told:
            told[name] = value
        elif value is None:
            del told["description"][name]
        else:
            told["description"][name] = value
    header["__metadata__"]["dfkd"] = json.dumps(told)
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + content[8 + length :]


def refused(content):
    with pytest.raises(UserError) as caught:
        kept_networks.from_bytes(content, "results/x/transfer_set.h5")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("results/x/transfer_set.h5: ")
    assert "delete it and make it again" in str(caught.value) and len(str(caught.value)) < 250


FOREIGN = {
    "nothing": b"",
    "no length": b"1234",
    "text": b"not a network, but long enough for a length",
    "empty": struct.pack("<Q", 2) + b"{}",
    "no end": struct.pack("<Q", 1 << 62) + b"{}",
    "brackets": struct.pack("<Q", 60_000) + b"[" * 60_000,
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_bytes(content):
    refused(content)


def test_bytes_are_a_file_that_is_loaded(tmp_path):
    """As written by hand, at the end of a loop of one's own."""
    made = classifier()
    (tmp_path / "own.safetensors").write_bytes(network_file.to_bytes(made))
    images = torch.rand(2, *made.description.image_shape)
    assert torch.allclose(network_file.load(tmp_path / "own.safetensors")(images), made.eval()(images), atol=1e-5)


def test_bytes_cut_off_or_of_other_weights():
    content = network_file.to_bytes(classifier())
    refused(content[:-5])
    refused(altered(classifier(), classes=["a", "b"]))
    refused(altered(classifier("resnet8"), name="resnet20"))


SHAPES = ([], [1, 8], 8, [1, 8, "8"], [1, 8, -8], [1, 8.5, 8], [1, 0, 0], [1, 8, 1 << 40])
BOTH = [("image_shape", shape) for shape in SHAPES] + [("mean", None), ("mean", [0.1, 0.2]), ("std", []), ("std", ["a"])]
BOTH += [("more", 1), ("kind", "other"), ("description", []), ("description", 3)]
OF_A_CLASSIFIER = [("name", "no-such"), ("name", 3), ("classes", [1, 2]), ("builder", "other")]
OF_A_GENERATOR = [("width", 0), ("width", 1 << 40), ("latent", -1), ("latent", 1 << 50), ("latent", "4"), ("arch", "other")]
OF_A_GENERATOR += [("num_classes", 1 << 50), ("classes", [0, 77]), ("classes", [-1]), ("classes", ["0"])]


@pytest.mark.parametrize(("name", "value"), BOTH + OF_A_CLASSIFIER)
def test_hostile_descriptions_of_a_classifier(name, value):
    refused(altered(classifier(), **{name: value}))


@pytest.mark.parametrize(("name", "value"), BOTH + OF_A_GENERATOR)
def test_hostile_descriptions_of_a_generator(name, value):
    refused(altered(rng(), **{name: value}))


def test_a_description_calls_no_code_of_its_own_choice(tmp_path, monkeypatch):
    (tmp_path / "chosen.py").write_text("import pathlib\n\ndef run(num_classes):\n    pathlib.Path('ran').touch()\n")
    monkeypatch.chdir(tmp_path)
    refused(altered(classifier(), builder="factory", name="chosen:run"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("builder", ["torchvision", "smp"])
def test_networks_of_libraries_may_be_kept_with_a_set(builder):
    """Their code is not of a stranger's choice. Whether the library is there, and has this network, is another matter."""
    with pytest.raises(UserError) as caught:
        kept_networks.from_bytes(altered(classifier(), builder=builder, name="no-such.network"), "here")
    assert "neither a generator" not in str(caught.value)


def test_looking_at_a_network_runs_no_factory(tmp_path, monkeypatch, capsys):
    """A step that computes with it does, and says so in docs/faults.md."""
    (tmp_path / "chosen.py").write_text("import pathlib\npathlib.Path('ran').touch()\n\ndef run(num_classes):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    made = classifier()
    described = dataclasses.replace(made.description, builder="factory", name="chosen:run")
    network_file.save(tmp_path / "x.safetensors", made.net, described, "k", {})
    assert verify.verify(tmp_path / "x.safetensors") == []
    told = "its network was not built: 'chosen:run' refers to code, which is not run here"
    assert cli.main(["verify", str(tmp_path / "x.safetensors")]) == 0
    assert capsys.readouterr().out == f"ok: {tmp_path / 'x.safetensors'}; {told}\n"
    assert verify.unseen(tmp_path / "x.safetensors") == told and told in "\n".join(inspect.summary(tmp_path / "x.safetensors"))
    assert not (tmp_path / "ran").exists() and "chosen" not in sys.modules
    with pytest.raises(UserError, match="factory: 'chosen:run' returned a NoneType"):
        network_file.load(tmp_path / "x.safetensors")
    assert (tmp_path / "ran").exists()


# ------------------------------------------------------------------------------------- a file
def test_every_part_of_a_network_is_in_its_checksum():
    content, weights = {"key": "k"}, {"a": torch.zeros(2, 3), "b": torch.ones(4)}
    others = [
        ({"key": "l"}, weights),
        (content, {**weights, "a": torch.zeros(3, 2)}),
        (content, {**weights, "a": torch.zeros(2, 3, dtype=torch.int32)}),
        (content, {**weights, "b": torch.tensor([1.0, 1, 1, 2])}),
        (content, {"a": weights["a"], "c": weights["b"]}),
    ]
    same = [(content, weights), ({**content, "crc32": "0"}, weights), (content, dict(reversed(weights.items())))]
    assert len({network_file.checksum(*parts) for parts in same}) == 1
    assert len({network_file.checksum(*parts) for parts in [*same, *others]}) == 1 + len(others)


def test_a_network_without_a_checksum_is_damaged(tmp_path):
    made, path = classifier(), tmp_path / "x.safetensors"
    network_file.save(path, made.net, made.description, "k", {})
    content, weights = network_file.read_metadata(path), load_file(path)
    assert content.pop("crc32") == network_file.checksum(content, weights)
    save_file(weights, path, {network_file.METADATA: json.dumps(content)})
    with pytest.raises(UserError, match=r"x\.safetensors: is damaged \(its checksum does not match\)"):
        network_file.read(path)


def test_weights_that_are_not_finite_are_told(tmp_path):
    made = classifier()
    with torch.no_grad():
        made.net.linear.bias[3] = float("inf")
    network_file.save(tmp_path / "x.safetensors", made.net, made.description, "k", {})
    assert verify.verify(tmp_path / "x.safetensors") == ["linear.bias: holds values that are not finite"]


@pytest.mark.parametrize("change", [{"kind": "generator"}, {"description": [1]}, {"description": None}])
def test_metadata_that_are_of_no_network(tmp_path, change):
    content = {"kind": "network", "key": "k", "description": {}, **change}
    save_file({"w": torch.zeros(2)}, tmp_path / "x.safetensors", {network_file.METADATA: json.dumps(content)})
    with pytest.raises(UserError, match=r"x\.safetensors: is not a network of dfkd; give a "):
        network_file.read_metadata(tmp_path / "x.safetensors")


def test_a_teacher_is_loaded_to_be_asked_alone(tmp_path):
    made = classifier()
    network_file.save(tmp_path / "x.safetensors", made.net, made.description, "k", {})
    loaded = network_file.load_frozen(tmp_path / "x.safetensors")
    assert not loaded.training and not any(weight.requires_grad for weight in loaded.parameters())
    assert all(weight.requires_grad for weight in network_file.load(tmp_path / "x.safetensors").parameters())


def test_weights_that_are_missing_other_or_too_many_are_told():
    weights = nn.Linear(2, 3).state_dict()
    for change, told in (
        ({}, ""),
        ({"more": torch.zeros(2)}, "more is (2,), not there"),
        ({"bias": torch.zeros(2)}, "bias is (2,), not (3,)"),
    ):
        assert misfit_of(lambda: nn.Linear(2, 3), {**weights, **change}) == told
    assert misfit_of(lambda: nn.Linear(2, 3), {"bias": weights["bias"]}) == "weight is missing, not (3, 2)"


def test_a_network_that_cannot_be_built_without_its_weights_is_not_compared(monkeypatch):
    def build(description):
        raise NotImplementedError

    monkeypatch.setattr(network_file, "build_network", build)
    made = classifier()
    told = network_file.compare("x", made.description, made.net.state_dict())
    assert told == "its network was not built: resnet8 cannot be built without its weights"


def test_a_history_is_there_before_the_network_that_vouches_for_it(tmp_path, monkeypatch):
    """A kill in between leaves a network that is not there, and not one whose history is another's."""

    def killed(*arguments, **named):
        raise InterruptedError

    monkeypatch.setattr(network_file, "save", killed)
    with pytest.raises(InterruptedError):
        network_file.publish(tmp_path / "teacher.safetensors", "k", {}, classifier(), [])
    assert (tmp_path / "history.csv").read_text() == "epoch,loss,lr\n"


# ------------------------------------------------------------------------------------- beside a transfer set
@pytest.fixture(scope="module")
def teacher():
    return classifier(seed=1)


@pytest.fixture
def kept():
    return {"student": classifier(seed=2), "generator-0": rng(), "generator-1": rng(seed=2)}


def test_networks_are_kept_with_the_set(tmp_path, teacher, kept):
    path = small_net.write(tmp_path, teacher, kept=kept)
    assert verify.verify_transfer_set(path) == []
    with TransferSet(path) as opened:
        found = opened.networks()
    assert found == {name: network_file.to_bytes(one) for name, one in kept.items()}
    with TransferSet(small_net.write(tmp_path, teacher)) as opened:
        assert opened.networks() == {}


def test_the_bytes_of_a_set_with_networks_repeat(tmp_path, teacher, kept):
    assert (
        small_net.write(tmp_path, teacher, kept=kept).read_bytes() == small_net.write(tmp_path, teacher, kept=kept).read_bytes()
    )


def many(file):
    """A network under more names than there may be networks."""
    file["networks/0"] = np.zeros(5, np.uint8)
    for number in range(1, set_layout.MAX_NETWORKS + 1):
        file[f"networks/{number}"] = file["networks/0"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.create_dataset("networks", data=np.arange(3)),
        lambda file: file.create_group("networks").create_group("student"),
        lambda file: file.create_group("networks").__setitem__("student", h5py.ExternalLink("/etc/hosts", "/x")),
        lambda file: file.create_group("networks").create_dataset("student", data=h5py.Empty("u1")),
        lambda file: file.create_group("networks").create_dataset("student", data=np.zeros((2, 3), "u1")),
        many,
        lambda file: file.create_group("networks").create_dataset("student", data=np.array(["a"], "S1")),
    ],
)
def test_networks_that_are_none_of_ours(tmp_path, teacher, spoil):
    path = small_net.write(tmp_path, teacher)
    with h5py.File(path, "a") as file:
        spoil(file)
    with pytest.raises(UserError, match=r"networks.*; give a transfer_set.h5 written by dfkd") as caught:
        TransferSet(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        groups.NoBalance(mode="none"),
        groups.EqualBalance(mode="equal", rounds=1, push_steps=1),
        groups.WeightBalance(mode="weight"),
    ],
)
def test_balance_carries_the_networks_over(tmp_path, teacher, kept, config):
    network_file.save(tmp_path / "teacher.safetensors", teacher.net, teacher.description, "t", {})
    inputs = [tmp_path / "teacher.safetensors", small_net.write(tmp_path, teacher, kept=kept)]
    (tmp_path / "balanced").mkdir()
    job = Job("balance", tmp_path / "balanced/transfer_set.h5", inputs, config, "b", {})
    balance.run(job)
    with TransferSet(job.out) as opened:
        assert opened.networks() == {name: network_file.to_bytes(one) for name, one in kept.items()}
        found = kept_networks.from_bytes(opened.networks()["student"], job.out, CPU)
    assert equal(found, kept["student"]) and dataclasses.asdict(found.description) == dataclasses.asdict(
        kept["student"].description
    )
