"""A teacher that answers by the BatchNorm statistics of the batch: its logits by hand, and every step that asks it."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_method import build, rng
from small_net import CPU, classifier, close, wrap
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from dfkd_steps import balance, distill, evaluate, synthesize
from dfkd_steps.models import answering_network, frozen, hooks
from dfkd_steps.pipeline import params
from dfkd_steps.pipeline.job import Job
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import dataset_file
from dfkd_steps.storage.transfer_set import TransferSet, Writer
from dfkd_steps.training import predict
from dfkd_steps.training.predict import to_float


@pytest.fixture(scope="module")
def teacher():
    return classifier(seed=1)


def current(teacher, images):
    """The logits of the teacher in train mode, which also moves its statistics, of a copy."""
    made = classifier(seed=1)
    made.load_state_dict(teacher.state_dict())
    with torch.no_grad():
        return made.train()(images)


def test_its_logits_are_those_of_train_mode_and_the_teacher_stays_as_it_is(teacher):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    images, made = torch.rand(16, 1, 8, 8, generator=rng()), answering_network.with_current_statistics(teacher)
    close(made(images), current(teacher, images), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(made(images), teacher(images), atol=0.01)
    assert not torch.allclose(made(images[:8]), made(images)[:8], atol=0.01)  # answers depend on the others
    close(frozen.logits(frozen.fast_copy(made, "fp32"), images, "fp32"), made(images), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    with pytest.raises(UserError, match="has no BatchNorm statistics"):
        answering_network.with_current_statistics(without := wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))))
    with pytest.raises(UserError, match=r"^transfer: noise: .* has no BatchNorm statistics.*; or set statistics: running$"):
        build("noise", without, statistics="current")


def test_noise_is_answered_by_it_and_the_set_says_so(teacher):
    method = build("noise", teacher, n=64, batch=32, kind="gaussian", statistics="current")
    images = method.batch(0).images
    close(method.answering(images), current(teacher, images), rtol=1e-3, atol=1e-4)
    assert torch.equal(images, build("noise", teacher, n=64, batch=32, kind="gaussian").batch(0).images)
    assert method.about()["teacher_statistics"] == "current" and "current statistics" in method.about()["label"]
    plain = build("noise", teacher)
    assert plain.answering is teacher and "teacher_statistics" not in plain.about()


def test_synthesis_balance_and_distillation_ask_it(teacher, tmp_path, monkeypatch):
    method, path = build("noise", teacher, n=64, batch=32, statistics="current"), tmp_path / "set.h5"
    writer, _ = synthesize.fill(SimpleNamespace(config=method.config), method, range(2), path, "key")
    writer.finish({}, method.about(), {})
    with TransferSet(path) as made:
        images = to_float(torch.from_numpy(made.read("images", slice(32, 64))))
        close(torch.from_numpy(made.read("logits", slice(32, 64))), current(teacher, images), rtol=1e-3, atol=1e-4)

    asked, none, copied = [], balance.MODES["none"], frozen.fast_copy
    monkeypatch.setattr(balance.network_file, "load_frozen", lambda path, device: teacher)
    monkeypatch.setitem(balance.MODES, "none", lambda config, net, *rest: asked.append(net) or none(config, net, *rest))
    monkeypatch.setattr(frozen, "fast_copy", lambda net, precision: asked.append(net) or copied(net, precision))
    out = tmp_path / "balanced.h5"
    balance.run(Job("balance", out, ["teacher", path], groups.NoBalance(), "key", {}))
    with TransferSet(out) as transfer:
        config = groups.Student(arch="resnet8", epochs=1, batch=8, augment="flip-crop")
        distill.distill(config, teacher, transfer, tmp_path / ".partial", "key", CPU)
    assert [one.net.bn1.running_mean for one in asked] == [None, None]


def test_the_metadata_of_a_set_choose_who_answers(teacher):
    assert (
        answering_network.of(teacher, {}) is teacher and answering_network.of(teacher, {"teacher_statistics": "other"}) is teacher
    )
    images = torch.rand(8, 1, 8, 8, generator=rng())
    close(
        answering_network.of(teacher, {"teacher_statistics": "current"})(images), current(teacher, images), rtol=1e-3, atol=1e-4
    )


def test_copies_of_a_class_keep_the_answers_that_they_have(teacher, tmp_path):
    """Asked again beside other images, the network would say something else."""
    method, path = build("noise", teacher, n=64, batch=32, statistics="current"), tmp_path / "set.h5"
    writer, _ = synthesize.fill(SimpleNamespace(config=method.config), method, range(2), path, "key")
    writer.finish({}, method.about(), {})
    out, config = tmp_path / "balanced.h5", groups.EqualBalance(mode="equal", per_class=60, rounds=0, push_steps=0)
    with TransferSet(path) as transfer:
        start = functools.partial(Writer, out, "key", transfer.layout)
        writer, stats = balance.equal(config, method.answering, transfer, start, CPU)
        known = dict(zip(map(bytes, transfer.read("images")), transfer.read("logits")))
        writer.finish({}, transfer.metadata, {})
    with TransferSet(out) as transfer:
        assert stats["resampled"] > 20
        for image, logits in zip(transfer.read("images"), transfer.read("logits")):
            assert (known[bytes(image)] == logits).all()
        assert (transfer.read("logits").argmax(1) == transfer.read("labels")).all()


def test_statistics_are_those_of_a_whole_batch_whatever_memory_there_is(teacher, tmp_path, monkeypatch):
    method, path = build("noise", teacher, n=64, batch=64, statistics="current"), tmp_path / "set.h5"
    monkeypatch.setattr(predict.memory, "passed", lambda shape: 20)
    writer, _ = synthesize.fill(SimpleNamespace(config=method.config), method, range(1), path, "key")
    writer.finish({}, method.about(), {})
    with TransferSet(path) as made:
        images = to_float(torch.from_numpy(made.read("images")))
        close(torch.from_numpy(made.read("logits")), current(teacher, images), rtol=1e-3, atol=1e-4)
    with pytest.raises(UserError, match=r"noise: batch: 64 images of this size do not fit.* set batch: 20 or less"):
        build("noise", teacher, n=64, batch=64, statistics="current")


def test_a_small_set_fits_whatever_the_batch_is(teacher, monkeypatch):
    monkeypatch.setattr(predict.memory, "passed", lambda shape: 40)
    assert build("noise", teacher, n=40, batch=500, statistics="current").count() == 1
    with pytest.raises(UserError, match="batch: 500 images of this size"):
        build("noise", teacher, n=41, batch=500, statistics="current")


@pytest.mark.parametrize("dense", [False, True])
def test_balance_asks_about_whole_batches_whatever_memory_there_is(dense, teacher, tmp_path, monkeypatch):
    if dense:
        teacher = classifier("unet-tiny", (3, 20, 28), 3)
    method, path = build("noise", teacher, n=64, batch=64, kind="smooth", statistics="current"), tmp_path / "set.h5"
    writer, _ = synthesize.fill(SimpleNamespace(config=method.config), method, range(1), path, "key")
    writer.finish({}, method.about(), {})
    config, found = groups.EqualBalance(mode="equal", surplus="confident", per_class=30), []
    for rows in (64, 5):
        monkeypatch.setattr(predict.memory, "passed", lambda shape, rows=rows: rows)
        with TransferSet(path) as transfer:
            start = functools.partial(Writer, tmp_path / f"out-{rows}.h5", "k", transfer.layout, resume=False)
            answering = answering_network.of(teacher, transfer.metadata)
            balance.equal(config, answering, transfer, start, CPU)[0].finish({}, transfer.metadata, {})
        with TransferSet(tmp_path / f"out-{rows}.h5") as made:
            found.append({name: made.read(name).tobytes() for name, _, _ in made.layout.fields()})
    assert found[0] == found[1]


def test_label_maps_are_of_the_network_that_answers(tmp_path):
    teacher, path = classifier("unet-tiny", (3, 20, 28), 3), tmp_path / "set.h5"
    method = build("noise", teacher, n=64, batch=64, statistics="current")
    writer, _ = synthesize.fill(SimpleNamespace(config=method.config), method, range(1), path, "key")
    writer.finish({}, method.about(), {})
    with TransferSet(path) as made, torch.no_grad():
        images = to_float(torch.from_numpy(made.read("images")))
        labels = torch.from_numpy(made.read("labels"))
    own, kept = ((net(images).argmax(1) == labels).float().mean() for net in (method.answering, teacher))
    assert own == 1 and kept < 0.9


def test_a_last_batch_of_a_few_images_is_refused():
    config = params.schema("transfer", "noise")(method="noise", n=1001, batch=500, statistics="current")
    assert "last batch has 1 images" in config.check()
    config.n = 1000
    assert config.check() is None
    config.n = config.batch = 31
    assert config.check() == "n: 31 images together are too few for batch statistics; use 32 or more"
    config.n, config.batch = 64, 4
    assert config.check() == "batch: 4 images together are too few for batch statistics; use 32 or more"
    config.n, config.batch = 32, 500
    assert config.check() is None
    config.batch = 500
    config.n, config.statistics = 1001, "running"
    assert config.check() is None


def test_a_student_is_measured_with_the_statistics_of_test_batches_too(teacher, tmp_path, monkeypatch):
    """In random order: the classes of a data set may stand one after the other."""
    rng, classes = np.random.default_rng(0), teacher.description.num_classes
    images, labels = rng.integers(0, 256, (60, 1, 8, 8), np.uint8), np.arange(60) * classes // 60
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    dataset_file.write(tmp_path / "d.h5", "k", {}, teacher.description.classes, arrays)
    dataset = dataset_file.open_dataset(tmp_path / "d.h5")
    seen, asked = [], evaluate.logits
    monkeypatch.setattr(evaluate, "BATCH", 20)
    monkeypatch.setattr(evaluate, "LEAST", 20)
    monkeypatch.setattr(evaluate, "logits", lambda nets, batches, device: seen.append(batches[0]) or asked(nets, batches, device))

    value = evaluate.on_test_batches(teacher, dataset, CPU)["top1_current"]
    places = {bytes(image): place for place, image in enumerate(images)}
    rows = [[places[bytes(image)] for image in part.numpy()] for part in seen]
    assert sorted(row for part in rows for row in part) == list(range(60)) and [len(part) for part in rows] == [20, 20, 20]
    assert all(len(set(labels[part])) > classes // 2 for part in rows)
    answers = [current(teacher, to_float(part)).argmax(1).numpy() for part in seen]
    right = sum((answer == labels[part]).sum() for answer, part in zip(answers, rows))
    assert value == round(100 * right / 60, 4)
    assert evaluate.on_test_batches(wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), dataset, CPU) == {}
    frozen_layer = nn.Sequential(FrozenBatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10))
    assert evaluate.on_test_batches(wrap(frozen_layer), dataset, CPU) == {}
    monkeypatch.setattr(evaluate, "LEAST", 21)
    assert evaluate.on_test_batches(teacher, dataset, CPU) == {}


def test_statistics_of_frozen_layers_are_there_but_not_replaced():
    network = wrap(nn.Sequential(FrozenBatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10)))
    assert hooks.batchnorm_layers(network.net) == [network.net[0]]
    with hooks.batchnorm_inputs(network.net) as seen:
        network(torch.rand(2, 1, 8, 8))
    assert [layer for layer, _ in seen] == [network.net[0]]
    with pytest.raises(UserError, match="has FrozenBatchNorm2d, which cannot take statistics of the batch; use BatchNorm2d"):
        answering_network.with_current_statistics(network)
