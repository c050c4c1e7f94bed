"""What jobs take, by their config alone, and what is refused before anything is done."""

import dataclasses
import math
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_net import classifier

from dfkd_steps import evaluate
from dfkd_steps.models import tasks
from dfkd_steps.models.classifier import Whole
from dfkd_steps.pipeline import audit, estimate, params, sweep
from dfkd_steps.procedural import shapes
from dfkd_steps.runtime import memory
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import dataset_file, network_file
from dfkd_steps.storage.transfer_set import Layout, TransferSet, Writer
from dfkd_steps.training import probes


@pytest.fixture(autouse=True)
def here(repository, monkeypatch):
    monkeypatch.chdir(repository)


def of(group, text, **how):
    return estimate.of_config(group, params.load(group, text), **how)


MNIST = estimate.Task((1, 28, 28), 10)


@pytest.mark.parametrize(
    ("group", "text", "how", "samples", "disk", "steps"),
    [
        ("dataset", "mnist-5k+test=100+train=500", {}, 600, 600 * (784 + 8), 0),
        ("transfer", "noise+n=200", {}, 200, 200 * (784 + 80 + 12), 0),
        ("transfer", "noise+image_type=float32+n=200", {}, 200, 200 * (4 * 784 + 80 + 12), 0),
        ("transfer", "zskd+batch=20+n=50+steps=7", {}, 50, 50 * (784 + 80 + 12), 3 * 7),
        ("transfer", "dafl+n=50+rounds=3+turns=4", {}, 50, 50 * (784 + 80 + 12), 3 * 4 * (1 + 1)),
        ("balance", "equal+per_class=30", {}, 300, 300 * (784 + 80 + 12), 0),
        ("balance", "none", {"before": 40}, 40, 40 * (784 + 80 + 12), 0),
        ("student", "lenet5-half+batch=64+epochs=3", {"before": 200}, 0, 0, 3 * 3),
        ("student", "lenet5-half+batch=64+epochs=3", {"before": 50}, 0, 0, 3),
        ("teacher", "lenet5+batch=64+epochs=3", {"before": 127}, 0, 0, 3),
        ("student", "lenet5-half+epochs=3+steps_per_epoch=9", {"before": 200}, 0, 0, 27),
    ],
)
def test_estimates(group, text, how, samples, disk, steps):
    found = of(group, text, task=MNIST, **how)
    assert (found.samples, found.disk, found.steps) == (samples, disk, steps)


@pytest.mark.parametrize(
    ("name", "how", "steps"),
    [
        ("deepinversion", {"n": 50, "batch": 20, "steps": 7}, 3 * 7),
        ("fast-5", {"rounds": 7, "warmup": 3, "steps": 2, "steps_s": 11}, 7 * 2 + 4 * 11),
        ("nayer-100", {"rounds": 7, "warmup": 3, "steps": 2, "steps_s": 11, "batches": 2, "batches_warmup": 5}, 23 * 2 + 4 * 11),
        ("zskt", {"rounds": 7, "turns": 3, "steps_g": 1, "steps_s": 10}, 7 * 3 * 11),
        ("generative", {"members": 4, "rounds_each": 3, "steps": 5}, 4 * 3 * 5),
        ("procedural", {"n": 100}, 0),
    ],
)
def test_the_steps_of_a_method(name, how, steps):
    config = dataclasses.replace(params.load("transfer", name), **how)
    assert estimate.of_config("transfer", config, task=MNIST).steps == config.training_steps() == steps


POOLED = ["cmi", "fast-5", "adi-cmi", "nayer-100", "ssd-kd", "dafl", "dfad", "dfq-cmi", "zskt"]


def test_measuring_holds_the_logits_of_all_test_images(tmp_path, monkeypatch):
    """Of 50,000 images and 1,000 classes 200 MB for each network, and for the one whose parts become a whole; else the probes."""
    monkeypatch.delenv("DFKD_MEMORY", raising=False)
    assert (estimate.PROBES, estimate.PROBES_OF_MAPS) == (probes.PER_KIND, evaluate.PROBES_OF_MAPS)
    photographs = estimate.Task((3, 224, 224), 1000)
    assert estimate.of_measuring(photographs, 50_000, 2).memory == 50_000 * (4 * 4000 + 8)
    pixels = 3 * 224 * 224
    assert estimate.of_measuring(photographs).memory == 400 * pixels + 20 * 4 * (pixels + 1000)
    maps = estimate.Task((3, 224, 224), 10, tasks.SEGMENTATION)
    assert estimate.of_measuring(maps, 50_000).memory == 48 * pixels + 20 * 4 * (pixels + 10 * 224 * 224)
    run = tmp_path / "results/mnist-5k+test=900/lenet5/noise/none/lenet5-half+snapshots=3"
    assert estimate.of_path(run / "metrics.json").memory == estimate.of_measuring(MNIST, 900, 4).memory
    assert estimate.of_path(run / "export.json").memory == estimate.of_measuring(MNIST).memory
    images, labels = np.zeros((700, 1, 28, 28), np.uint8), np.arange(700) % 10
    arrays = {"x_train": images[:20], "y_train": labels[:20], "x_test": images, "y_test": labels}
    dataset = tmp_path / "results/mnist-5k+test=900/dataset.h5"
    dataset.parent.mkdir(parents=True)
    dataset_file.write(dataset, "k", {}, "0123456789", arrays)
    assert estimate.of_path(run / "metrics.json").memory == estimate.of_measuring(MNIST, 700, 4).memory
    monkeypatch.setattr(memory, "most", lambda: 1000)
    assert "; use fewer test images, or set" in estimate.excess(estimate.of_measuring(MNIST), run / "metrics.json")


def test_every_method_that_trains_a_student_holds_its_images():
    configs = [params.load("transfer", name) for name in params.names("transfer") if name != "dataset"]
    holding = {config.method for config in configs if config.images_held()}
    assert holding == {params.load("transfer", name).method for name in POOLED}
    assert holding == {config.method for config in configs if hasattr(config, "student")}


@pytest.mark.parametrize("text", POOLED)
def test_a_pool_is_held_in_memory(text):
    """10,000 images of 224 x 224 are 1.5 GB; of methods without a pool only a batch is there."""
    images = estimate.Task((3, 224, 224), 1000)
    small, large = (of("transfer", f"{text}+n={n}", task=images).memory for n in (9000, 11000))
    assert large - small == 2000 * 3 * 224 * 224
    assert of("transfer", "deepinversion+n=9000", task=images).memory == of("transfer", "deepinversion", task=images).memory


@pytest.mark.parametrize(
    ("group", "text"),
    [("student", "small-resnet+augment=shift+views_kept={}"), ("transfer", "fast-5+n=7000+view_s=shift+views_kept={}")],
)
def test_the_answers_of_kept_views_are_held_in_memory(group, text):
    small, large = (of(group, text.format(n), before=7000).memory for n in (3, 5))
    assert large - small == 7000 * 2 * 10 * 2  # ten logits of two bytes


@pytest.mark.parametrize(("whole", "classes"), [(Whole(50, (4, 2, 7), {}), 50), (None, 3)])
def test_kept_views_hold_all_outputs_of_a_teacher_that_was_cut(tmp_path, whole, classes):
    """As far as its file says how many it had."""
    made, student = classifier(shape=(3, 8, 8), classes=3), tmp_path / "results/images/resnet20/noise+n=700/none"
    described = dataclasses.replace(made.description, builder="onnx")  # of which no tensor need be cut
    (tmp_path / "results/images/resnet20").mkdir(parents=True)
    network_file.save(tmp_path / "results/images/resnet20/teacher.safetensors", made.net, described, "k", {}, whole=whole)
    text = "resnet8+augment=shift+outputs=all+views_kept={}/student.safetensors"
    small, large = (estimate.of_path(student / text.format(number)).memory for number in (2, 4))
    assert large - small == 700 * 2 * classes * 2


def test_a_real_set_takes_what_was_estimated(tmp_path):
    layout = Layout((1, 28, 28), 10)
    row = sum(np.dtype(kind).itemsize * math.prod(shape) for _, shape, kind in layout.fields())
    assert of("transfer", "zskd+n=1000", task=MNIST).disk == 1000 * row


MAPS = estimate.Task((3, 20, 28), 4, tasks.SEGMENTATION)


def written(path, task, number, weights=False):
    """A transfer set for segmentation on disk; the bytes of its file without what HDF5 adds."""
    layout = Layout(task.image_shape, task.classes, targets=False, weights=weights, task=task.task)
    writer, shape = Writer(path, "key", layout, number, resume=False), task.image_shape
    writer.append(images=np.zeros((number, *shape), np.uint8), labels=np.zeros((number, *shape[1:])), round=np.zeros(number))
    writer.finish({}, {})
    with TransferSet(path) as made:
        return sum(made.nbytes(name) for name in made.fields), path.stat().st_size


def test_label_maps_of_a_transfer_set_and_of_a_balanced_one(tmp_path):
    """A map has a byte a pixel, 560 here; an image 1,680, and its round 4. No logits are stored."""
    fields, size = written(tmp_path / "transfer_set.h5", MAPS, 50)
    assert fields == 50 * (1680 + 560 + 4) == 112_200 and fields < size < fields + 20_000
    for group, text, how in (("transfer", "noise+n=50", {}), ("balance", "none", {"before": 50})):
        assert of(group, text, task=MAPS, **how).disk == fields
    assert of("transfer", "noise+image_type=float32+n=50", task=MAPS).disk == 50 * (4 * 1680 + 560 + 4)
    # A chunk of the balanced set; a batch of images, logits (4 an image point) and maps.
    assert of("balance", "none", task=MAPS, before=50).memory == fields
    assert of("transfer", "noise+batch=10+n=50", task=MAPS).memory == 10 * (4 * 1680 + 4 * 4 * 560 + 560)


def test_label_maps_of_a_data_set(tmp_path):
    images, maps = np.zeros((10, 3, 20, 28), np.uint8), np.zeros((10, 20, 28), np.uint8)
    arrays = {"x_train": images, "y_train": maps, "x_test": images[:4], "y_test": maps[:4]}
    folder = tmp_path / "results/drawn-shapes"
    folder.mkdir(parents=True)
    dataset_file.write(folder / "dataset.h5", "k", {}, "abcd", arrays)
    taken = of("dataset", "drawn-shapes+test=4+train=10", task=MAPS)
    assert taken.disk == taken.memory == 14 * (1680 + 560) == 31_360
    assert taken.disk < (folder / "dataset.h5").stat().st_size < taken.disk + 20_000
    assert estimate.of_path(folder / "unet-shapes/noise+n=200/transfer_set.h5").disk == 200 * (1680 + 560 + 4)
    student = estimate.of_path(folder / "unet-shapes/noise+n=200/none/unet-tiny+batch=8/student.safetensors")
    assert student.memory == 8 * (1680 + 4 * 560) * 4  # images and logits of a step
    teacher = estimate.of_path(folder / "unet-shapes+batch=8/teacher.safetensors")
    assert teacher.memory == 8 * (1680 + 4 * 560) * 4


def test_a_folder_of_images_that_memory_should_not_hold(tmp_path, monkeypatch):
    """They lie on the disk twice while the data set is made; those of an .npz are held, however many."""
    config = groups.Images(source="images", path="x", size=100, train=900, test=100)
    wide = estimate.Task((3, 100, 100), 10, "classification")
    for most, disk, held in ((1 << 30, 30_008_000, 30_008_000), (100_000_000, 60_016_000, 8_000)):
        monkeypatch.setattr(memory, "most", lambda most=most: most)
        taken = estimate.of_config("dataset", config, wide)
        assert (taken.disk, taken.memory) == (disk, held)
    taken = estimate.of_config("dataset", groups.Npz(source="npz", path="x", train=900, test=100), wide)
    assert taken.disk == taken.memory == 30_008_000


@pytest.mark.parametrize(("name", "dense"), [("drawn-shapes", True), ("camvid-npz", True), ("cifar10", False)])
def test_the_task_of_a_data_set_that_is_not_there_is_what_it_declares(tmp_path, monkeypatch, name, dense):
    monkeypatch.setattr(estimate.array_files, "images_in", lambda path: ())
    taken = estimate.of_path(tmp_path / f"results/{name}/x/noise+n=200/transfer_set.h5")
    shape, classes = {"drawn-shapes": ((3, 40, 56), 10), "camvid-npz": ((3, 32, 32), 11)}.get(name, ((3, 32, 32), 10))
    pixels = shape[1] * shape[2]
    assert taken.disk == 200 * (3 * pixels + (pixels + 4 if dense else 8 * classes + 12))


def test_an_npz_says_how_large_its_images_are_before_they_are_read(tmp_path, repository, monkeypatch):
    """By the head of the array alone; a file that is none, or that is no data set, is for the step to refuse."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").symlink_to(repository / "params")
    (tmp_path / "data").mkdir()
    images = np.zeros((30, 18, 24, 3), np.uint8)
    np.savez(tmp_path / "data/camvid.npz", x_train=images, y_train=images[..., 0], x_test=images, y_test=images[..., 0])
    config = params.load("dataset", "camvid-npz")
    assert estimate.declared(config) == estimate.Task((3, 18, 24), 11, tasks.SEGMENTATION)
    assert estimate.training_images(config) == 30 and estimate.training_images(dataclasses.replace(config, train=20)) == 20
    assert estimate.of_path("results/camvid-npz/fpn-lite0/noise+n=200/transfer_set.h5").disk == 200 * (4 * 18 * 24 + 4)
    assert estimate.of_path("results/camvid-npz/dataset.h5").disk == 30 * 4 * 18 * 24
    (tmp_path / "no.npz").write_bytes(b"PK no")
    np.savez(tmp_path / "flat.npz", x_train=np.zeros(5))
    np.savez(tmp_path / "other.npz", x=np.zeros(5))
    for name in ("no.npz", "flat.npz", "other.npz", "gone.npz"):
        assert estimate.array_files.images_in(Path(name)) == (), name
    grey = tmp_path / "grey.npz"
    np.savez(grey, x_train=images[..., 0])
    assert estimate.array_files.images_in(grey) == (30, 1, 18, 24)


def test_a_method_that_is_not_for_maps_is_refused_before_a_teacher_is_trained(tmp_path):
    for name in ("zskd", "dafl"):
        with pytest.raises(
            UserError, match=f"{name}/transfer_set.h5: is for classification, but the teacher is for segm.*use one of"
        ):
            estimate.refuse([tmp_path / f"results/drawn-shapes/unet-shapes/{name}/transfer_set.h5"])
    estimate.refuse([tmp_path / f"results/{path}" for path in (
        "drawn-shapes/unet-shapes/fast-segmentation-cpu/transfer_set.h5", "drawn-shapes/unet-shapes/teacher.safetensors",
        "mnist/lenet5/zskd/transfer_set.h5", "drawn-shapes/unet-shapes/noise/equal/transfer_set.h5",
    )])  # fmt: skip


def test_the_remedy_for_memory_is_what_takes_it(monkeypatch):
    monkeypatch.setenv("DFKD_MEMORY", "1")
    large = estimate.Task((3, 224, 224), 10)
    said = estimate.excess(of("transfer", "fast-5", task=large))
    assert "has 1 GiB; use a smaller n: the method holds its images, 7.9 GiB" in said
    assert "use smaller batches" in estimate.excess(of("transfer", "noise+batch=5000+n=5000", task=large))


@pytest.mark.parametrize(
    ("count", "spelled"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1500, "1.46 KiB"), (1023 << 20, "1,023 MiB"), (1 << 30, "1 GiB")],
)
def test_bytes_for_people(count, spelled):
    assert estimate.size(count) == spelled


ABSURD = {
    "noise+n=1000000000000": ("transfer", "of disk space, with only .* left; use fewer samples"),
    "zskd+steps=9000000000000000000": ("transfer", "steps, more than ten years; use fewer"),
    "dafl+latent=65536+width=65536": (
        "transfer",
        "of memory, but the machine has .*; use smaller batches or networks, or set DFKD_MEMORY to what",
    ),
    "lenet5-half+epochs=99999999999999999": ("student", "steps, more than ten years; use fewer"),
    "equal+per_class=99999999999999": ("balance", "of disk space, with only .* left"),
    "mnist-5k+train=9999999999999999": ("dataset", "of disk space, with only .* left"),
}


@pytest.mark.parametrize("text", ABSURD)
def test_what_no_machine_does(text):
    group, told = ABSURD[text]
    assert re.search(told, estimate.excess(of(group, text)))


@pytest.mark.parametrize("text", ["noise", "zskd", "dafl", "cmi", "fast-5", "ssd-kd", "deepinversion"])
def test_presets_are_possible(text):
    assert estimate.excess(of("transfer", text)) == ""


@pytest.mark.parametrize(
    ("group", "text"),
    [
        ("student", "lenet5-half+epochs=1" + "0" * 20),
        ("transfer", "noise+n=99999999999999999999"),
        ("transfer", "noise+seed=" + "9" * 30),
    ],
)
def test_numbers_of_more_than_64_bits(group, text):
    with pytest.raises(UserError, match="is not a 64-bit number"):
        params.load(group, text)


def test_a_process_that_runs_a_job_keeps_to_its_control_group(tmp_path, monkeypatch):
    """On a login node, which may allow little, jobs for other nodes are only planned."""
    monkeypatch.setattr(memory, "group_limits", lambda: [1 << 20])
    out = tmp_path / "results/mnist-5k/lenet5/noise+n=500/transfer_set.h5"
    estimate.refuse([out])
    with pytest.raises(
        UserError, match=r"transfer_set.h5: needs .* of memory, but the machine's control group has 1 MiB; use smaller batches"
    ):
        estimate.refuse([out], here=True)


def test_a_job_that_is_resumed_has_its_room(tmp_path, monkeypatch):
    """The rows of a working file are allocated already."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    out = tmp_path / "results/mnist-5k/lenet5/noise+n=200/transfer_set.h5"
    with pytest.raises(UserError, match=r"transfer_set.h5: needs .* of disk space, with only 100 bytes left"):
        estimate.refuse([out])
    out.parent.mkdir(parents=True)
    (out.parent / ".transfer_set.h5.partial").write_bytes(bytes(10_000_000))
    estimate.refuse([out])


def test_shapes_are_those_of_the_data_set(tmp_path):
    folder = tmp_path / "results/mnist-5k"
    folder.mkdir(parents=True)
    images, labels = np.zeros((10, 3, 50, 40), np.uint8), np.arange(10) % 4
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    dataset_file.write(folder / "dataset.h5", "k", {}, "abcd", arrays)
    assert estimate.of_path(folder / "lenet5/noise+n=200/transfer_set.h5").disk == 200 * (3 * 50 * 40 + 8 * 4 + 12)


def test_drawn_shapes_have_as_many_classes_as_are_drawn():
    expected = estimate.Task((3, 40, 56), len(shapes.CLASSES), tasks.SEGMENTATION)
    assert estimate.declared(params.load("dataset", "drawn-shapes")) == expected


def test_a_card_has_as_many_classes_as_its_file_has_names(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("cat\n\n dog \nNilpferd ä\n", "utf-8")
    card = groups.Card("card", names_file=str(file), height=32)
    assert estimate.declared(card).classes == 3
    assert estimate.declared(dataclasses.replace(card, keep=[0, 2])).classes == 2
    for content in (b"\xff\xfe", b""):  # refused by the step
        file.write_bytes(content)
        assert estimate.declared(card).classes == 10
    assert estimate.declared(groups.Card("card", names_file="gone.txt", height=32)).classes == 10
    pipe = tmp_path / "pipe"  # which would be waited for
    os.mkfifo(pipe)
    assert estimate.declared(groups.Card("card", names_file=str(pipe), height=32)).classes == 10


def test_shapes_are_those_that_are_declared(tmp_path, repository, monkeypatch):
    folder = tmp_path / "params/dataset"
    shutil.copytree(repository / "params", tmp_path / "params")
    (folder / "wide.yaml").write_text("source: images\npath: x\nsize: 100\nwidth: 150\n")
    (folder / "told.yaml").write_text("source: card\nheight: 224\nclasses: 1000\n")
    monkeypatch.chdir(tmp_path)
    for cached in (params._load, params._layers):
        cached.cache_clear()
    path = "results/{}/lenet5/noise+n=200/transfer_set.h5"
    assert estimate.of_path(path.format("wide")).disk == 200 * (3 * 100 * 150 + 8 * 10 + 12)
    assert estimate.of_path(path.format("told")).disk == 200 * (3 * 224 * 224 + 8 * 1000 + 12)
    for known, pixels, classes in (
        ("mnist-5k", 784, 10),
        ("mnist", 784, 10),
        ("emnist-letters", 784, 26),
        ("cifar100", 3072, 100),
    ):
        assert estimate.of_path(path.format(known)).disk == 200 * (pixels + 8 * classes + 12)
    for cached in (params._load, params._layers):
        cached.cache_clear()


def test_what_is_made_from_something_that_is_there_is_not_made(tmp_path, monkeypatch):
    """A set that was deleted when its student was finished needs no room."""
    (tmp_path / "params").symlink_to(Path("params").resolve())
    monkeypatch.chdir(tmp_path)
    data, teacher = "results/mnist-5k/dataset.h5", "results/mnist-5k/lenet5/teacher.safetensors"
    folder = "results/mnist-5k/lenet5/noise/none/lenet5-half"
    metrics, student = f"{folder}/metrics.json", f"{folder}/student.safetensors"
    assert audit.to_make([metrics], set()) == set(audit.lineage([metrics]))
    for path in (metrics, student):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    assert audit.to_make([metrics], set()) == set()
    assert audit.to_make([metrics], {metrics}) == {metrics, teacher, data}
    assert audit.to_make([metrics], {metrics, student}) == set(audit.lineage([metrics]))


def test_an_estimate_in_a_line():
    takes = estimate.Estimate(1200, 3 << 29, 700 << 20, 108_000_000)  # at a ten-thousandth of a second
    said = "1,200 samples, 1.5 GiB on disk, 108,000,000 steps, at least 3 hours, at least 1,000 MiB of memory"
    assert str(takes) == said


def test_a_sweep_in_a_line():
    lists = {"dataset": ["mnist-5k+test=100+train=500"], "teacher": ["lenet5+epochs=1"], "transfer": ["noise+n=200"],
             "balance": ["none"], "student": ["lenet5-half+batch=100+epochs=2"]}  # fmt: skip
    paths = audit.lineage(sweep.finals(lists))
    said = estimate.summary(paths)
    assert said.startswith("6 artefacts to make: ") and said.endswith(" steps")
    steps = 1 * (500 // params.load("teacher", "lenet5+epochs=1").batch) + 2 * 2
    assert f", at least {steps:,} steps" in said
