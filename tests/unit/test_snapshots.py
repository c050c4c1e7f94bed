"""Snapshots of a student: when they are taken, what files hold of them, and what evaluate and the tables make of them."""

import csv
import dataclasses
import io
import json

import pytest
import small_net
import torch
from small_net import CPU, classifier

from dfkd_steps import distill, evaluate
from dfkd_steps.pipeline.job import Job
from dfkd_steps.reporting import runs, tables
from dfkd_steps.runtime import progress
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import checkpoint, kept_networks, network_file, verify
from dfkd_steps.storage.transfer_set import Layout, TransferSet, Writer
from dfkd_steps.training import snapshots

CONFIG = groups.Student(arch="resnet8", epochs=4, batch=8, lr=0.01, augment="mild", schedule="constant", snapshots=3)


@pytest.fixture(scope="module")
def teacher():
    return classifier(seed=1)


@pytest.fixture
def transfer(tmp_path, teacher):
    (tmp_path / "set").mkdir()
    with TransferSet(small_net.write(tmp_path / "set", teacher)) as opened:
        yield opened


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def moved(net, number):
    """The classifier with other weights, as after a step."""
    with torch.no_grad():
        net.net.linear.bias.fill_(number)


@pytest.mark.parametrize(
    ("number", "steps", "taken"),
    [(3, 16, {2, 4, 8}), (0, 16, set()), (2, 6, {2, 3}), (4, 3, {1, 2})],  # more places than steps: a copy a step at most
)
def test_they_are_taken_at_halves_of_halves(number, steps, taken):
    net = classifier(seed=2)
    taking = snapshots.Snapshots(net, number)
    for step in range(steps):
        moved(net, step)
        taking.step(step / steps, 5)
    assert net.seen == 5 * steps and set(net.snapshots) == {5 * step for step in taken}
    assert {images: weights["linear.bias"][0].item() for images, weights in net.snapshots.items()} == {
        5 * step: step for step in taken
    }


def test_it_goes_on_from_its_state(capsys, monkeypatch):
    monkeypatch.setattr(progress, "spent", lambda: 7.25)
    whole, net, again = (classifier(seed=2) for _ in range(3))
    taking = [snapshots.Snapshots(each, 3) for each in (whole, net, again)]
    for step in range(16):
        moved(whole, step)
        taking[0].step(step / 16, 5)
    for step in range(6):
        moved(net, step)
        taking[1].step(step / 16, 5)
    capsys.readouterr()
    monkeypatch.setattr(progress, "spent", lambda: 9.0)
    taking[2].restore(taking[1].state())
    assert capsys.readouterr().err == "snapshot after 10 images, 7.2 s\nsnapshot after 20 images, 7.2 s\n"
    for step in range(6, 16):
        moved(again, step)
        taking[2].step(step / 16, 5)
    assert again.seen == whole.seen and again.snapshots.keys() == whole.snapshots.keys()
    assert all(equal(again.snapshots[images], whole.snapshots[images]) for images in whole.snapshots)
    assert set(net.snapshots) == {10, 20}  # the state is a copy


def test_a_snapshot_is_the_student_of_a_shorter_training(tmp_path, teacher, transfer):
    """At a constant rate nothing tells a training how long it is."""
    learn = lambda **how: distill.distill(dataclasses.replace(CONFIG, **how), teacher, transfer, tmp_path / "p", "k", CPU)[0]  # noqa: E731
    student, shorter = learn(), learn(epochs=2, snapshots=0)
    images = len(transfer) // 8 * 8
    assert student.seen == 4 * images and shorter.seen == 2 * images and not shorter.snapshots
    assert images == 40 and set(student.snapshots) == {24, 40, 80}
    assert equal(student.snapshots[2 * images], shorter.net.state_dict())
    by_images = snapshots.networks(student)
    assert list(by_images) == sorted(by_images) and by_images[student.seen] is student
    assert equal(by_images[2 * images].net.state_dict(), shorter.net.state_dict())
    assert not equal(by_images[images].net.state_dict(), shorter.net.state_dict())


def test_an_interrupted_training_has_the_same_ones(tmp_path, teacher, transfer, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", -1.0)
    (tmp_path / "whole").mkdir()
    whole, _ = distill.distill(CONFIG, teacher, transfer, tmp_path / "whole" / "p", "k", CPU)
    saved = checkpoint.save

    def end(*where, **content):
        saved(*where, **content)
        if len(content["history"]) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", end)
    with pytest.raises(KeyboardInterrupt):
        distill.distill(CONFIG, teacher, transfer, tmp_path / "p", "k", CPU)
    again, _ = distill.distill(CONFIG, teacher, transfer, tmp_path / "p", "k", CPU)
    assert network_file.to_bytes(again) == network_file.to_bytes(whole) and len(again.snapshots) == 3


# ------------------------------------------------------------------------------------------------------------ files
@pytest.fixture
def student():
    net = classifier(seed=2)
    taking = snapshots.Snapshots(net, 2)
    for step in range(8):
        moved(net, step)
        taking.step(step / 8, 5)
    return net


def test_files_hold_them(tmp_path, student):
    path = tmp_path / "student.safetensors"
    network_file.publish(path, "k", {}, student, [])
    for again in (network_file.load(path), kept_networks.from_bytes(network_file.to_bytes(student), "here")):
        assert again.seen == 40 and again.snapshots.keys() == {10, 20} and equal(again.net.state_dict(), student.net.state_dict())
        assert all(equal(again.snapshots[images], student.snapshots[images]) for images in (10, 20))
    assert verify.verify(path) == []


def test_a_training_that_goes_on_keeps_those_of_before(tmp_path, teacher, student):
    (tmp_path / "set").mkdir()
    with TransferSet(small_net.write(tmp_path / "set", teacher, kept={"student": student})) as transfer:
        config = dataclasses.replace(CONFIG, init="transfer", epochs=0)
        same, _ = distill.distill(config, teacher, transfer, tmp_path / "p", "k", CPU)
        assert network_file.to_bytes(same) == network_file.to_bytes(student)
        config = dataclasses.replace(CONFIG, init="transfer", epochs=1, snapshots=1)
        longer, _ = distill.distill(config, teacher, transfer, tmp_path / "p", "k", CPU)
        images = len(transfer) // 8 * 8
        assert longer.seen == 40 + images and len(longer.snapshots) == 3
        assert equal(longer.snapshots[10], student.snapshots[10]) and max(longer.snapshots) == 40 + -(-images // 16) * 8


@pytest.mark.parametrize("change", ["shape", "missing", "extra", "kind"])
def test_a_snapshot_of_another_network_is_refused(tmp_path, student, change):
    kept, path = student.snapshots[20], tmp_path / "student.safetensors"
    if change == "shape":
        kept["linear.bias"] = torch.zeros(3)
    elif change == "missing":
        del kept["linear.bias"]
    elif change == "extra":
        kept["more"] = torch.zeros(3)
    else:
        kept["linear.bias"] = kept["linear.bias"].double()
    network_file.publish(path, "k", {}, student, [])
    for call in (lambda: network_file.load(path), lambda: kept_networks.from_bytes(network_file.to_bytes(student), path)):
        with pytest.raises(UserError, match=r"its snapshot after 20 images is not of the same network"):
            call()
    assert verify.verify(path) == ["its snapshot after 20 images is not of the same network; make it again"]


@pytest.mark.parametrize("seen", [-1, 1.5, "40", 10**15])
def test_a_number_of_images_that_is_none_is_refused(tmp_path, student, seen):
    student.seen = seen
    network_file.publish(tmp_path / "student.safetensors", "k", {}, student, [])
    with pytest.raises(UserError, match="number of images"):
        network_file.load(tmp_path / "student.safetensors")


def test_a_snapshot_that_is_not_finite_is_told(tmp_path, student):
    student.snapshots[10]["linear.bias"].fill_(float("nan"))
    network_file.publish(tmp_path / "student.safetensors", "k", {}, student, [])
    assert verify.verify(tmp_path / "student.safetensors") == ["snapshot/10/linear.bias: holds values that are not finite"]


# -------------------------------------------------------------------------------------------------------- measured
class Data:
    """A data set as evaluate reads it."""

    def __init__(self, shape, images):
        draw = torch.Generator().manual_seed(3)
        self.image_shape, self.path, self.task = shape, "dataset.h5", "classification"
        self.images = torch.randint(0, 256, (images, *shape), generator=draw).to(torch.uint8).numpy()
        self.sizes, self.classes = {"test": images}, tuple("0123456789")

    def read(self, split, rows):
        return self.images[rows], (torch.arange(len(self.images)) % 10).numpy()[rows]


@pytest.mark.parametrize("labelled", [True, False])
def test_evaluate_measures_each(tmp_path, teacher, student, monkeypatch, labelled):
    shape = teacher.description.image_shape
    paths = [tmp_path / name for name in ("results/d/t/zskd/b/s/student.safetensors", "teacher.safetensors", "dataset.h5")]
    paths[0].parent.mkdir(parents=True)
    moved(student, 0.0)
    for images, answer in ((10, 3), (20, 7)):  # on its way it knew one class alone
        student.snapshots[images]["linear.bias"].zero_()[answer] = 1e4
    student.snapshots[10]["linear.weight"].zero_()
    network_file.publish(paths[0], "k", {}, student, [])
    network_file.save(paths[1], teacher.net, teacher.description, "t", {})
    monkeypatch.setattr(evaluate.dataset_file, "open_dataset", lambda path: Data(shape, 40 if labelled else 0))
    job = Job("evaluate", paths[0].with_name("metrics.json"), paths, None, "e", {})
    evaluate.run(job)
    content = json.loads(job.out.read_text())
    quality = "top1" if labelled else "probe_balanced"
    assert content["images_seen"] == 40 and [images for images, _ in content["curve"]] == [10, 20, 40]
    assert content["curve"][-1][1] == round(content[quality], 4)
    if labelled:
        assert [value for _, value in content["curve"][:2]] == [10.0, 10.0]
    else:
        answered = [share for share in content["probe_per_class"] if share is not None]
        assert content["curve"][0][1] in (0.0, round(100 / len(answered), 4))  # one of the classes, or none of those answered


def written(folder, inside, **metrics):
    """A run of a student inside, or of one that distill trained, with its logs."""
    path, mark = folder / "results/d/t/x/b/s/metrics.json", "snapshot after 100 images, 5.0 s\n"
    logs = {"x/transfer_set.h5": mark * inside + "synthesize: 9 samples, 100.0 s\n",
            "x/b/s/student.safetensors": mark * (not inside) + "distill: 2 epochs, 8.0 s\n"}  # fmt: skip
    for name, text in logs.items():
        log = folder / "logs/results/d/t" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text)
    specs = dict(zip(("dataset", "teacher", "transfer", "balance", "student"), path.parts[-6:-1]))
    content = {"top1": 80.0, "images_seen": 400, "curve": [[100, 60.0], [400, 80.0]], "key": "k", "provenance": [{"threads": 8}]}
    return runs.Run(path, specs, content | metrics, "label", "data-free")


@pytest.mark.parametrize(("inside", "seconds"), [(True, ["5.0", "108.0"]), (False, ["105.0", "108.0"])])
def test_the_table_has_a_line_for_each_with_seconds_until_then(tmp_path, monkeypatch, inside, seconds):
    monkeypatch.chdir(tmp_path)
    run = written(tmp_path, inside)
    read = lambda: list(csv.DictReader(io.StringIO(tables.curves_csv([run]))))  # noqa: E731
    threads = {"transfer_set.h5": 2, "student.safetensors": 2}  # evaluate had other ones
    monkeypatch.setattr(tables.recorded, "provenance", lambda path: {"threads": threads[path.name]})
    monkeypatch.setattr(tables, "_key", lambda run, step: "the key of another student")
    assert tuple(read()[0]) == tables.CURVES_HEAD
    assert [(line["images"], line["metric"], line["value"]) for line in read()] == [
        ("100", "top1", "60.0"),
        ("400", "top1", "80.0"),
    ]
    assert [line["seconds"] for line in read()] == seconds and {line["threads"] for line in read()} == {"2"}
    threads["student.safetensors"] = 4
    assert {line["threads"] for line in read()} == {""}
    log = tmp_path / "logs/results/d/t/x/b/s/student.safetensors.log"
    log.write_text(log.read_text().replace("8.0 s\n", "8.0 s, key 0123456789abcdef0123\n"))
    assert [line["seconds"] for line in read()] == ([seconds[0], ""] if inside else ["", ""])  # it tells of another student
    (tmp_path / "logs/results/d/t/x/transfer_set.h5.log").unlink()
    assert [line["seconds"] for line in read()] == ["", ""]
    assert tables.curves_csv([written(tmp_path, inside, curve=[])]).count("\n") == 1


def test_seconds_are_those_of_all_shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = written(tmp_path, True)
    log = tmp_path / "logs/results/d/t/x/transfer_set.h5.log"
    log.write_text("gathered 9 samples of 2 shards\nsynthesize: 9 samples, 1.0 s\n")
    assert tables.seconds(run, "synthesize") is None  # their logs are missing
    (log.parent / ".shards").mkdir()
    for number in (0, 1):
        (log.parent / f".shards/{number}-of-2.log").write_text(f"shard {number} of 2: 5 samples, 20.5 s\n")
    assert tables.seconds(run, "synthesize") == 42.0


# ----------------------------------------------------------------------------------------- seconds of all attempts
def test_a_step_that_goes_on_tells_the_seconds_of_before(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    progress.begin("a job")
    now[0] += 50
    checkpoint.save(tmp_path / "state", "key", rounds=1)
    writer = Writer(tmp_path / "set", "key", Layout((1, 2, 2), 2, targets=False), 4)
    now[0] += 20
    batch = {"images": torch.zeros(2, 1, 2, 2, dtype=torch.uint8), "logits": torch.zeros(2, 2), "labels": torch.zeros(2)}
    writer.append(**{name: value.numpy() for name, value in batch.items()}, round=torch.zeros(2).numpy())
    now[0] += 1000  # lost
    progress.begin("the same again")
    assert progress.spent() == 0
    now[0] += 3
    checkpoint.load(tmp_path / "state", "other")
    assert progress.spent() == 3
    checkpoint.load(tmp_path / "state", "key")
    assert progress.spent() == 53
    assert Writer(tmp_path / "set", "key", Layout((1, 2, 2), 2, targets=False), 4).done == 2
    assert progress.spent() == 73


def test_the_snapshots_of_a_checkpoint_are_copied():
    """Its file is read through a memory map, which one tensor of it would hold."""
    resumed, state = snapshots.Snapshots(classifier(), 1), {"passed": 1, "seen": 8, "seconds": {4: 0.5}}
    resumed.restore({**state, "snapshots": {4: (weights := {"w": torch.ones(2)})}})
    kept = resumed.classifier.snapshots[4]["w"]
    assert torch.equal(kept, weights["w"]) and kept.data_ptr() != weights["w"].data_ptr()
