"""Every method and every step on a device that is not the CPU, on a machine without one (pretend_gpu.py): run by
test_pretend_gpu.py in a process of its own, since such a device stays for good, and autograd then forks no more."""

import dataclasses
import importlib
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import photograph
import pytest
import torch

from dfkd_steps import distill
from dfkd_steps.methods import registry
from dfkd_steps.pipeline import graph
from dfkd_steps.storage import checkpoint

from . import pretend_gpu, steps

WHERE = torch.device(pretend_gpu.NAME)
# The cheapest values of fields, for whichever method has them.
CHEAP = {
    "n": 16, "batch": 8, "rounds": 3, "warmup": 1, "steps": 2, "steps_s": 2, "batch_s": 8, "train_batch": 8, "turns": 2,
    "latent": 6, "width": 4, "student": "resnet8", "rounds_each": 2, "bank": 4, "window": 1, "batches": 2, "batches_warmup": 1,
    "source": "of-gpu",
}  # fmt: skip
# More of the fields that change what is computed.
OPTIONS = {
    "fast": {"exchange": 0.5, "mix_s": "cutmix", "snapshots": 2, "ema": 0.9},
    "ssd-kd": {"diversity": 0.5, "view_s": "strong", "loss_s": "kd", "optimizer_s": "soap"},
    "cmi": {"view": "resized-crop", "views_kept": 2},
    "dfq": {"average_g": 0.9, "collect": 1.0, "snapshots": 2},
    "nayer": {"embedding": "one-hot"},
    "noise": {"statistics": "current", "n": 64, "batch": 32},
    "single-image": {"images": photograph.path(0)},
    "zskd": {"start": "scenes", "untouched": 0.5},
}
DATASET = {"source": "npz", "path": "images.npz"}
STUDENT = {"arch": "resnet8", "epochs": 2, "batch": 8}
TEACHER = {"kind": "train", "arch": "resnet8", "epochs": 2, "batch": 20}


@pytest.fixture
def gpu(monkeypatch):
    """The device, which all steps choose."""
    with pretend_gpu.Device() as entered:
        for step in ("teacher", "shard", "synthesize", "balance", "distill", "evaluate"):
            monkeypatch.setattr(importlib.import_module(f"dfkd_steps.{step}"), "select_device", lambda: WHERE)
        monkeypatch.setitem(distill.HOLD, WHERE.type, distill.HOLD["cuda"])
        yield entered


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a data set of random images, a teacher that the device has trained, and two transfer sets."""
    folder = tmp_path_factory.mktemp("begun")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 16, 16, 3), np.uint8), np.arange(60) % 3
    np.savez(folder / "images.npz", x_train=images, y_train=labels, x_test=images[:30], y_test=labels[:30])
    with pytest.MonkeyPatch.context() as patched, pretend_gpu.Device() as entered:
        patched.chdir(folder)
        for step in ("teacher", "synthesize"):
            patched.setattr(importlib.import_module(f"dfkd_steps.{step}"), "select_device", lambda: WHERE)
        for last, configs in (("teacher", {}), ("synthesize", {"transfer": SCENES}), ("synthesize", {"transfer": MEMBERS})):
            before = entered.calls
            make(last, **configs)
            assert entered.calls > before
    return folder


@pytest.fixture
def folder(begun, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(begun, tmp_path / "copy"))


def make(last, **configs):
    """Make the artefacts of a chain, up to a step, from the configs of its groups; returns the path of the last."""
    configs = {"dataset": DATASET, "teacher": TEACHER, **configs}
    specs = {}
    for group, values in configs.items():
        text = json.dumps(values)
        specs[group] = "of-gpu" if values == DATASET else f"gpu-{zlib.crc32(text.encode()):x}"
        path = Path("params", group, f"{specs[group]}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for step in list(graph.STEPS)[: list(graph.STEPS).index(last) + 1]:
        path = graph.path_of(step, specs)
        if not path.exists():
            code, errors = steps.command(step, path, *graph.inputs_of(path))
            assert not code, errors
    return path


def settings(name, **changes):
    """A config of a method, as small as it can be."""
    known = {one.name for one in dataclasses.fields(registry.load(name).Config)}
    cheap = {field: value for field, value in CHEAP.items() if field in known}
    return {"method": name, **cheap, **OPTIONS.get(name, {}), **changes}


# What students are trained on: made once.
SCENES = settings("procedural", kind="scenes", n=40)
MEMBERS = settings("generative", members=2)


@pytest.mark.parametrize("name", registry.REGISTRY)
def test_every_method(folder, gpu, name, monkeypatch):
    """Stopped before its last rounds, then resumed; images, answers and networks go into the transfer set."""
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    config, method = settings(name), registry.load(name)
    whole = method.round

    def stopped(self, index):
        if index:
            raise KeyboardInterrupt
        return whole(self, index)

    if {"rounds", "rounds_each"} & config.keys():
        monkeypatch.setattr(method, "round", stopped)
        with pytest.raises(KeyboardInterrupt):
            make("synthesize", transfer=config)
        monkeypatch.setattr(method, "round", whole)
    before = gpu.calls
    make("synthesize", transfer=config)
    assert gpu.calls > before


CHAINS = {
    "equal, hard": ({"mode": "equal"}, {"sampling": "hard", "mix": "mixup", "optimizer": "soap"}),
    "confidence, priority": ({"mode": "confidence", "threshold": 0.1}, {"sampling": "priority", "mix": "cutmix"}),
    "weight, given": ({"mode": "weight"}, {"sampling": "given", "select": "agreement", "snapshots": 2}),
    "views kept": ({"mode": "none"}, {"views_kept": 2, "augment": "flip-crop"}),
}


@pytest.mark.parametrize("name", CHAINS)
def test_distillation(folder, gpu, name, monkeypatch):
    balance, student = CHAINS[name]
    if name == "views kept":
        monkeypatch.setitem(distill.HOLD, WHERE.type, 0)  # a set that is read row by row
    before = gpu.calls
    make("distill", transfer=SCENES, balance=balance, student={**STUDENT, **student})
    assert gpu.calls > before


def test_fresh_images_and_the_networks_of_a_set(folder, gpu):
    make("distill", transfer=MEMBERS, balance={"mode": "none"}, student={**STUDENT, "fresh": True})
    made = settings("fast")
    metrics = make("evaluate", transfer=made, balance={"mode": "none"}, student={**STUDENT, "epochs": 0, "init": "transfer"})
    assert json.loads(metrics.read_text())["n_test"] == 30


def test_segmentation(folder, gpu):
    """Maps in place of labels, from training to the mIoU."""
    rng = np.random.default_rng(0)
    images, maps = rng.integers(0, 256, (20, 16, 16, 3), np.uint8), rng.integers(0, 3, (20, 16, 16), np.uint8)
    np.savez("images.npz", x_train=images, y_train=maps, x_test=images, y_test=maps)
    dataset, net = {**DATASET, "task": "segmentation"}, {"arch": "unet-tiny", "epochs": 2, "batch": 10}
    made = settings("fast", student="unet-tiny", onehot=0.0, presence=1.0, exchange=0.0)
    metrics = make("evaluate", dataset=dataset, teacher={**TEACHER, **net}, transfer=made, balance={"mode": "none"}, student=net)
    assert "miou" in json.loads(metrics.read_text())


def waits(gpu, last, **configs) -> int:
    """How often the making of artefacts waited for the device."""
    before = gpu.waits
    make(last, **configs)
    return gpu.waits - before


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("fast", "steps"),
        ("ssd-kd", "steps_s"),
        ("dfq", "turns"),
        ("generative", "steps"),
    ],
)
def test_no_step_of_a_round_waits_for_the_device(folder, gpu, name, field):
    few, many = (settings(name, **{field: number}) for number in (1, 2))
    assert 0 < waits(gpu, "synthesize", transfer=few) == waits(gpu, "synthesize", transfer=many)


@pytest.mark.parametrize("how", [{"augment": "strong", "mix": "cutmix"}, {"fresh": True}])
def test_no_step_of_a_student_waits_for_the_device(folder, gpu, how):
    common = {"transfer": MEMBERS, "balance": {"mode": "none"}}
    make("balance", **common)
    few, many = ({**STUDENT, "epochs": 1, "steps_per_epoch": number, **how} for number in (1, 2))
    assert 0 < waits(gpu, "distill", student=few, **common) == waits(gpu, "distill", student=many, **common)


def test_it_refuses_what_a_gpu_refuses(gpu):
    there, here = torch.ones(2, device=WHERE), torch.ones(2)
    assert (there + 1).device.type == WHERE.type and (there * torch.tensor(2.0)).sum().item() == 4
    for wrong in (
        lambda: there + here,
        lambda: torch.cat([there, here]),
        lambda: here[torch.ones(2, dtype=torch.bool, device=WHERE)],
        lambda: torch.rand(2, device=WHERE, generator=torch.Generator()),
        lambda: torch.rand(2, generator=torch.Generator(device=WHERE)),
    ):
        with pytest.raises(RuntimeError, match="of"):
            wrong()
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(there)


def test_it_counts_what_a_program_waits_for(gpu):
    there, here = torch.ones(2, device=WHERE), torch.ones(2)
    for free in (lambda: there + 1, lambda: there.double(), lambda: there.clone(), lambda: here.double(), lambda: here.nonzero()):
        free()
    assert gpu.waits == 0
    for number, waited in enumerate(
        (there.sum().item, there.cpu, there.nonzero, lambda: here.to(WHERE), lambda: there[there > 0])
    ):
        waited()
        assert gpu.waits == number + 1
