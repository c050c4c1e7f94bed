"""A finished segmentation student on images of one's own: figures by hand, in every form of images, and what is refused."""

import dataclasses
import shutil
import types

import numpy as np
import pytest
import torch
from PIL import Image
from small_net import classifier

from dfkd_steps import cli
from dfkd_steps.datasets import readers
from dfkd_steps.models.tasks import VOID
from dfkd_steps.pipeline import params
from dfkd_steps.reporting import other_images, other_maps
from dfkd_steps.storage import dataset_file, network_file

SHAPE, CLASSES, NUMBER = (3, 20, 28), 3, 5


def iou_by_hand(truth, answers):
    """IoU of each class in percent over the pixels with a class, by sets of places."""
    found, there = [], truth != VOID
    for k in range(CLASSES):
        true, called = (truth == k) & there, (answers == k) & there
        found.append(100 * (true & called).sum() / (true | called).sum() if (true | called).any() else None)
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A teacher, a student and images with maps, as arrays and as a folder."""
    root = tmp_path_factory.mktemp("tree")
    place = root / "results/own/teacher/noise/none/student/student.safetensors"
    teacher, student = (classifier("unet-tiny", SHAPE, CLASSES, seed=seed) for seed in (0, 1))
    for path, net in ((root / "results/own/teacher/teacher.safetensors", teacher), (place, student)):
        path.parent.mkdir(parents=True, exist_ok=True)
        network_file.save(path, net.net, net.description, "key", {})
    rng = np.random.default_rng(0)
    images, maps = (
        rng.integers(0, 256, (NUMBER, *SHAPE), np.uint8),
        rng.integers(0, CLASSES, (NUMBER, *SHAPE[1:])).astype(np.uint8),
    )
    maps[:, :4], maps[0, 4:8] = VOID, 9  # 9 = void in these files
    write(root / "labelled", images, maps)
    write(root / "plain", images)
    stored = torch.from_numpy(images).float() / 255
    with torch.no_grad():
        answers = [network_file.load_frozen(path)(stored).argmax(1).numpy() for path in (place, teacher_at(place))]
    truth = np.where(maps == 9, VOID, maps)
    return types.SimpleNamespace(root=root, student=place, images=images, maps=maps, truth=truth, answers=answers)


def teacher_at(student):
    return student.parents[3] / "teacher.safetensors"


def write(folder, images, maps=None):
    for kind, arrays in (("images", images.transpose(0, 2, 3, 1)), ("masks", maps)):
        if arrays is not None:
            (folder / kind).mkdir(parents=True)
            for row, pixels in enumerate(arrays):
                Image.fromarray(pixels).save(folder / kind / f"{row}.png")


def test_a_labelled_folder_by_hand(tree):
    found = dict(other_images.measure(tree.student, tree.root / "labelled", None, 9))
    assert list(found) == ["teacher", "student.safetensors"] and found["teacher"]["agreement_miou"] == 100.0
    for (name, own), answers in zip(found.items(), tree.answers[::-1]):
        wanted = iou_by_hand(tree.truth, answers)
        assert own["per_class_iou"] == pytest.approx(wanted, abs=1e-3), name
        assert own["miou"] == pytest.approx(np.mean(wanted), abs=1e-3) and own["images"] == NUMBER
        there = tree.truth != VOID
        assert own["pixel_accuracy"] == pytest.approx(100 * (tree.truth == answers)[there].mean(), abs=1e-3)
    student = found["student.safetensors"]
    assert student["agreement_pixels"] == pytest.approx(100 * (tree.answers[0] == tree.answers[1]).mean(), abs=1e-3)
    assert 0 < student["agreement_pixels"] < 100 and student["miou"] != found["teacher"]["miou"]


@pytest.mark.parametrize("form", ["npz", "data set", "test", "images"])
def test_every_form_of_images(tree, tmp_path, form):
    labelled = dict(other_images.measure(tree.student, tree.root / "labelled", None, 9))["student.safetensors"]
    source = tmp_path / {"npz": "some.npz", "data set": "dataset.h5"}.get(form, "folder")
    if form == "npz":
        np.savez(source, images=tree.images.transpose(0, 2, 3, 1), labels=tree.maps)
    elif form == "data set":
        arrays = {
            f"{name}_{split}": values for split in ("train", "test") for name, values in (("x", tree.images), ("y", tree.truth))
        }
        dataset_file.write(source, "key", {}, ("a", "b", "c"), arrays)
    elif form == "test":
        write(source / "test", tree.images, tree.maps)
        write(source / "train", tree.images[:1], tree.maps[:1])
    else:
        write(source, tree.images)
    found = dict(other_images.measure(tree.student, source, None, 9))["student.safetensors"]
    for name in ("miou", "per_class_iou", "pixel_accuracy", "agreement_miou", "agreement_pixels", "kl", "images"):
        if form == "images" and name in ("miou", "per_class_iou", "pixel_accuracy"):
            assert name not in found
        else:
            assert found[name] == pytest.approx(labelled[name], abs=1e-5), name


@pytest.mark.parametrize("lacking", [None, 2])
@pytest.mark.parametrize("form", ["some.npz", "folder", "dataset.h5"])
def test_void_may_be_0_and_the_last_class_may_be_missing(tree, tmp_path, form, lacking):
    """As in 20 images of ADE20K, whose void is 0 and whose 150 classes are 1 to 150; a data set has 255 for void."""
    source, truth = tmp_path / form, np.where(tree.truth == lacking, VOID, tree.truth)
    stored = np.where(truth == VOID, 0, truth + 1).astype(np.uint8)
    if form == "folder":
        write(source, tree.images, stored)
    elif form == "some.npz":
        np.savez(source, images=tree.images, labels=stored)
    else:
        names = ("x_train", "x_test", "y_train", "y_test")
        dataset_file.write(
            source, "key", {}, ("a", "b", "c"), dict(zip(names, (tree.images,) * 2 + (truth.astype(np.uint8),) * 2))
        )
    figures = dict(other_images.measure(tree.student, source, None, 0))["student.safetensors"]
    assert figures["per_class_iou"] == pytest.approx(iou_by_hand(truth, tree.answers[0]), abs=1e-3)


def test_it_prints_a_line_for_each_network_and_each_class(tree, tmp_path, capsys):
    """Without a teacher there is no agreement; a folder of images alone has no IoU."""
    shutil.copy(tree.student, tmp_path / "student.safetensors")
    labelled = ["--images", str(tree.root / "labelled"), "--void", "9"]
    assert cli.main(["evaluate", str(tmp_path / "student.safetensors"), *labelled]) == 0
    alone = capsys.readouterr().out.splitlines()
    assert cli.main(["evaluate", str(tree.student), *labelled]) == 0
    both = capsys.readouterr().out.splitlines()
    assert alone[0].startswith("network ") and "agreement" not in alone[0] and "agreement mIoU %" in both[0]
    assert alone[1].split()[:4] == both[2].split()[:4]
    assert both[3] == "" and both[4].split() == ["IoU", "%", "teacher", "student.safetensors"]
    assert [line.split()[0] for line in both[5:]] == list(network_file.load(tree.student).description.classes)
    assert cli.main(["evaluate", str(tree.student), "--images", str(tree.root / "plain" / "images")]) == 0
    plain = capsys.readouterr().out.splitlines()
    assert len(plain) == 3 and plain[0].split()[:3] == ["network", "images", "agreement"]


def test_fit_and_void_are_those_of_the_data_set_in_the_path(tree, tmp_path, capsys):
    """As in metrics.json, which is of these images made into a data set; where the path names none, images are cropped."""
    folder = tmp_path / "wide/test"
    write(folder, tree.images.repeat(2, 3), tree.maps.repeat(2, 2))
    (tmp_path / "params/dataset").mkdir(parents=True)
    text = f"source: masks\npath: {folder}\nnames: [a, b, c]\nheight: 20\nwidth: 28\nfit: squash\nvoid: 9\n"
    (tmp_path / "params/dataset/own.yaml").write_text(text)
    arrays = readers.read(params.load("dataset", "own", tmp_path / "params")).arrays
    arrays |= {"x_test": arrays["x_train"], "y_test": arrays["y_train"]}
    dataset_file.write(tmp_path / "dataset.h5", "key", {}, ("a", "b", "c"), arrays)
    shutil.copytree(tree.root / "results", tmp_path / "results")
    student = tmp_path / tree.student.relative_to(tree.root)

    def iou(student, source, *void):
        return dict(other_images.measure(student, source, None, *void))["student.safetensors"]["per_class_iou"]

    assert iou(student, folder.parent) == iou(student, tmp_path / "dataset.h5") != iou(tree.student, folder.parent, 9)
    said = "images are not cropped, as the data set own has fit: squash; the label 9 in masks is void, as in the data set own"
    assert said in capsys.readouterr().err
    other_images.measure(student, folder / "images", None)  # images alone have no label that could be void
    assert "cropped" in (unlabelled := capsys.readouterr().err) and "the label" not in unlabelled
    np.savez(tmp_path / "some.npz", images=tree.images, labels=tree.maps)
    assert iou(student, tmp_path / "some.npz") == iou(tree.student, tmp_path / "some.npz", 9)
    assert "cropped" not in capsys.readouterr().err


@pytest.mark.parametrize("command", [["evaluate", "x.safetensors"], ["new", "x", "--teacher", "a:b", "--student", "unet"]])
@pytest.mark.parametrize("void", ["-1", "256", "x"])
def test_what_is_no_label_is_not_void(command, void, capsys):
    """-1 would make void of class 0, and the next lower class of every other."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, f"--void={void}"])
    assert stopped.value.code == 2
    assert f"argument --void: '{void}' is no label of a mask; give one from 0 to 255" in capsys.readouterr().err


def without_a_mask(folder, tree):
    write(folder, tree.images, tree.truth)
    (folder / "masks/2.png").unlink()


def with_a_small_mask(folder, tree):
    write(folder, tree.images, tree.truth)
    Image.new("L", (9, 9)).save(folder / "masks/1.png")


WRONG = {
    "a label too many": (
        lambda at, tree: write(at, tree.images, tree.maps),
        "masks/0.png: has the label 9, but the classes are 0 to 2 and void is 255",
    ),
    "no mask of an image": (without_a_mask, "'2.png' has no mask in masks/; give a mask with the same name"),
    "no image": (lambda at, tree: (at / "images").mkdir(parents=True), "contains no images; put images there, or folders"),
    "void alone": (lambda at, tree: write(at, tree.images, np.full_like(tree.truth, VOID)), "no pixel of a class, all are void"),
    "a mask of another size": (with_a_small_mask, "masks/1.png: is 9x9, but its image is 28x20; use one size for both"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_images_are_one_line(tree, tmp_path, capsys, case):
    make, said = WRONG[case]
    make(tmp_path / "images", tree)
    assert cli.main(["evaluate", str(tree.student), "--images", str(tmp_path / "images")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and said in told[0] and told[0].count(str(tmp_path)) == 1, told


def test_maps_of_another_size_and_a_teacher_of_another_task_are_one_line(tree, tmp_path, capsys):
    np.savez(tmp_path / "some.npz", images=tree.images, labels=tree.maps[:, :10])
    assert cli.main(["evaluate", str(tree.student), "--images", str(tmp_path / "some.npz")]) == 2
    assert "labels have shape (5, 10, 28), but images (5, 3, 20, 28); give each" in capsys.readouterr().err
    other = classifier("resnet8", SHAPE, CLASSES)
    described = dataclasses.replace(other.description, name="resnet8")
    network_file.save(tmp_path / "teacher.safetensors", other.net, described, "key", {})
    how = ["--images", str(tree.root / "plain"), "--teacher", str(tmp_path / "teacher.safetensors")]
    assert cli.main(["evaluate", str(tree.student), *how]) == 2
    assert "or is for a different task; give its own" in capsys.readouterr().err


def test_logits_that_are_not_finite_are_one_line(tree, tmp_path, capsys):
    """So are those of a classifier."""
    for number, arch in enumerate(("unet-tiny", "resnet8")):
        net = classifier(arch, SHAPE, CLASSES)
        with torch.no_grad():
            next(reversed(list(net.parameters()))).fill_(float("inf"))
        network_file.save(tmp_path / f"{number}.safetensors", net.net, net.description, "key", {})
        images = tree.root / ("labelled" if arch == "unet-tiny" else "plain/images")
        command = ["evaluate", str(tmp_path / f"{number}.safetensors"), "--images", str(images), "--void", "9"]
        if arch == "resnet8":
            np.savez(tmp_path / "few.npz", images=tree.images, labels=np.arange(NUMBER) % CLASSES)
            command[3] = str(tmp_path / "few.npz")
        assert cli.main(command) == 2
        assert f"{number}.safetensors: its logits on these images are not finite" in capsys.readouterr().err


def test_images_are_measured_a_batch_at_a_time(tree, monkeypatch):
    whole = other_maps.figures({"teacher": network_with_classes(tree)}, tree.images, tree.truth)
    monkeypatch.setattr(other_maps.passes, "passed", lambda shape, pixel_logits: 2)
    assert other_maps.figures({"teacher": network_with_classes(tree)}, tree.images, tree.truth) == whole


def network_with_classes(tree):
    network = network_file.load_frozen(teacher_at(tree.student))
    network.classes = network.description.classes
    return network
