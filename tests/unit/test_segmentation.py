"""Segmentation: losses over pixels and mIoU by hand, maps that move with their images, readers, balance, and one-line errors."""

import dataclasses
import io
import math
import struct
import types
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from small_net import CPU, classifier, close, wrap
from torch import nn

from dfkd_steps import balance, dataset, distill, evaluate
from dfkd_steps import teacher as teacher_step
from dfkd_steps.balancing import segmentation, selection
from dfkd_steps.datasets import readers
from dfkd_steps.methods.engines import image_losses, objective, stored_answers
from dfkd_steps.models import dense, look, onnx_file, start, trial
from dfkd_steps.models.classifier import Classifier, Description, new_classifier
from dfkd_steps.models.generator import build_generator
from dfkd_steps.models.tasks import SEGMENTATION, VOID
from dfkd_steps.pipeline import params
from dfkd_steps.procedural import shapes
from dfkd_steps.reporting import examples, other_maps
from dfkd_steps.runtime import memory
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import dataset_file, network_file
from dfkd_steps.storage.transfer_set import Layout, TransferSet, Writer, class_counts
from dfkd_steps.storage.verify import verify
from dfkd_steps.training import losses, maps, probes, segmentation_metrics, supervised_maps

ROOT = Path(__file__).parents[2]
SHAPE = (3, 20, 28)


def refused(match, call, *arguments, **named):
    """A call that ends in one line."""
    with pytest.raises(UserError, match=match) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def teacher():
    return classifier("unet-tiny", SHAPE, 3)


# ---------------------------------------------------------------------------------------------- losses
def test_losses_are_means_over_pixels():
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    flat = [logits.permute(0, 2, 3, 1).reshape(-1, 3) for logits in (student, teacher)]
    close(losses.kd_each(student, teacher, 2.0), losses.kd_each(*flat, 2.0).view(2, -1).mean(1))
    close(losses.l1_each(student, teacher), losses.l1_each(*flat).view(2, -1).mean(1))
    close(image_losses.balance(teacher), image_losses.balance(torch.log(flat[1].softmax(1).mean(0, keepdim=True))))


def test_kd_of_two_pixels_by_hand():
    teacher = torch.tensor([[[[0.0, math.log(3)]], [[0.0, 0.0]]]])  # probabilities 1/2, 1/2 and 3/4, 1/4
    student = torch.zeros_like(teacher)
    wanted = (0.0 + 0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    close(losses.kd_each(student, teacher, 1.0), torch.tensor([wanted]))


def test_presence_is_of_the_best_region_by_hand():
    """8x8 pixels, regions of 2x2: class 1 is sure in one of them, and at a third elsewhere."""
    logits = torch.zeros(1, 3, 8, 8)
    logits[0, 1, 2:4, 4:6] = math.log(6.0)  # 6/8
    close(image_losses.presence(logits, torch.tensor([1])), torch.tensor([-math.log(0.75)]))
    close(image_losses.presence(logits, torch.tensor([0])), torch.tensor([-math.log(1 / 3)]))
    close(image_losses.presence(logits[:, :, 0, 0], torch.tensor([1])), torch.tensor([math.log(3)]))


def test_presence_is_of_regions_that_overlap():
    logits = torch.zeros(1, 3, 8, 8)
    logits[0, 1, 3:5, 5:7] = math.log(6.0)
    close(image_losses.presence(logits, torch.tensor([1])), torch.tensor([-math.log(0.75)]))


def test_regions_of_presence_are_no_larger_than_a_quarter_of_sides_that_four_does_not_divide():
    """6x10 pixels, regions of 1x2: class 1 is sure in one of them, and all around it at a third."""
    logits = torch.zeros(1, 3, 6, 10)
    logits[0, 1, 3, 4:6] = math.log(6.0)  # 6/8
    close(image_losses.presence(logits, torch.tensor([1])), torch.tensor([-math.log(0.75)]))


def test_smoothed_cross_entropy_by_hand():
    """A fifth of the target over all classes, of the pixels that count."""
    logits, labels = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)), torch.ones(2, 4, 5, dtype=torch.uint8)
    labels[0, :2] = VOID
    log_p = logits.log_softmax(1).permute(0, 2, 3, 1)[labels != VOID]
    close(supervised_maps.cross_entropy(logits, labels, 0.2), -(0.8 * log_p[:, 1] + 0.2 * log_p.mean(1)).mean())


def test_cross_entropy_passes_over_void():
    logits = torch.zeros(1, 2, 1, 3)
    logits[0, 1, 0, 0] = math.log(3)
    labels = torch.tensor([[[1, VOID, 0]]], dtype=torch.uint8)
    close(supervised_maps.cross_entropy(logits, labels), torch.tensor((-math.log(0.75) - math.log(0.5)) / 2))
    assert supervised_maps.cross_entropy(logits, torch.full_like(labels, VOID)) == 0


# ---------------------------------------------------------------------------------------------- metrics
def test_miou_by_hand():
    truth = torch.tensor([[[0, 0, 1], [1, VOID, 0]]], dtype=torch.uint8)
    answers = torch.tensor([[[0, 1, 1], [0, 2, 0]]])
    matrix = segmentation_metrics.confusion(truth, answers, 4)
    # Class 0: right 2, called 3, true 3 -> 2/4; class 1: right 1, called 2, true 2 -> 1/3; 2 in void only, 3 nowhere.
    assert matrix[:2, :2].tolist() == [[2, 1], [1, 1]] and matrix.sum() == 5
    found = segmentation_metrics.iou(matrix)
    assert found == [50.0, 33.3333, None, None] and segmentation_metrics.mean(found) == pytest.approx(41.66665, abs=1e-4)
    assert segmentation_metrics.accuracy(matrix) == 60.0


def test_a_class_that_is_answered_and_never_true_counts_as_nothing():
    matrix = segmentation_metrics.confusion(torch.zeros(1, 2, 2, dtype=torch.uint8), torch.tensor([[[0, 0], [0, 1]]]), 2)
    assert segmentation_metrics.iou(matrix) == [75.0, 0.0]


def test_metrics_are_those_of_all_batches_together():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 3, 5, 4, generator=generator) for _ in range(2))
    truth = torch.randint(0, 3, (6, 5, 4), generator=generator).to(torch.uint8)
    truth[0, 0] = VOID
    parts, whole = segmentation_metrics.Counts(3), segmentation_metrics.Counts(3)
    for rows in torch.arange(6).split(4):
        parts.add(student[rows], teacher[rows], truth[rows])
    whole.add(student, teacher, truth)
    found = segmentation_metrics.measured(parts)
    assert found == segmentation_metrics.measured(whole) and found["n_test"] == 6 and found["n_test_pixels"] == 116
    assert found["agreement_miou"] == segmentation_metrics.mean(
        segmentation_metrics.iou(segmentation_metrics.confusion(teacher.argmax(1), student.argmax(1), 3))
    )
    for name, logits in (("miou", student), ("teacher_miou", teacher)):
        matrix = segmentation_metrics.confusion(truth, logits.argmax(1), 3)
        assert found[name] == segmentation_metrics.mean(segmentation_metrics.iou(matrix))
    assert found["kl_to_teacher"] == pytest.approx(losses.kd(student, teacher, 1.0).item(), abs=1e-5)
    same = segmentation_metrics.Counts(3)
    same.add(teacher, teacher)
    assert segmentation_metrics.compared({"noise": same, "more": same})["probe_miou"] == 100.0


def shares_of_unions(answers, truth):
    """Pixels of each of three classes in both maps, as percent of those in either."""
    pairs = [(answers == label, truth == label) for label in range(3)]
    return [100 * ((here & there).sum() / (here | there).sum()).item() for here, there in pairs]


def test_figures_beside_the_truth_and_beside_the_teacher_by_counting():
    draw = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 6, 3, 5, 4, generator=draw)
    teacher[:, 2] = -9.0  # a class that the teacher never answers
    truth = torch.randint(0, 3, (6, 5, 4), generator=draw).to(torch.uint8)
    truth[0, 0] = VOID
    counts = segmentation_metrics.Counts(3)
    counts.add(student, teacher, truth)
    said, guide, counted = student.argmax(1), teacher.argmax(1), truth != VOID
    figures = segmentation_metrics.measured(counts)
    for name, answers in (("pixel_accuracy", said), ("teacher_pixel_accuracy", guide)):
        assert figures[name] == pytest.approx(100 * (answers == truth)[counted].float().mean().item(), abs=1e-3)
    assert figures["agreement_pixels"] == pytest.approx(100 * (said == guide).float().mean().item(), abs=1e-3)
    each = [100 * (said[truth == label] == label).float().mean().item() for label in range(3)]
    assert figures["mean_class_accuracy"] == pytest.approx(sum(each) / 3, abs=1e-3)
    assert figures["teacher_per_class_iou"] == pytest.approx(shares_of_unions(guide[counted], truth[counted]), abs=1e-3)
    more = segmentation_metrics.Counts(3)
    more.add(student[:2], teacher[:2])
    probed, both = segmentation_metrics.compared({"a": counts, "b": more}), torch.tensor([*range(6), 0, 1])
    assert probed["probe_classes"] == 2 and probed["n_probe"] == 8
    assert probed["probe_per_class_iou"] == pytest.approx(shares_of_unions(said[both], guide[both]), abs=1e-3)
    assert probed["probe_miou"] == pytest.approx(sum(probed["probe_per_class_iou"]) / 3, abs=1e-3)  # of all kinds together
    assert probed["probe_pixels"] == pytest.approx(100 * (said == guide)[both].float().mean().item(), abs=1e-3)
    assert probed["probe_kl"] == pytest.approx(losses.kd(student[both], teacher[both], 1.0).item(), abs=1e-5)
    assert probed["probe_kinds"][1]["kl"] == pytest.approx(losses.kd(student[:2], teacher[:2], 1.0).item(), abs=1e-5)


# ---------------------------------------------------------------------------------------------- augmentation
@pytest.mark.parametrize(
    "how", [{"crop": 4}, {"flip": True}, {"cutout": 8}, {"zoom": 1.0}, {"crop": 3, "flip": True, "zoom": 0.5}]
)
def test_maps_move_with_their_images(how):
    """Images whose grey value is 20 times the class of the pixel: they say afterwards what the maps have to be."""
    labels = torch.zeros(16, 24, 32, dtype=torch.uint8)
    labels[:, 4:12, 6:20], labels[:, 12:22, 16:30] = 1, 2
    images = (labels * 20 + 10)[:, None].expand(-1, 3, -1, -1).contiguous()
    settings = {"crop": 0, "flip": False, "cutout": 0, "zoom": 0.0, **how}
    rng = torch.Generator().manual_seed(1)
    moved, moved_labels = supervised_maps.augmented(types.SimpleNamespace(**settings), images, labels, rng)
    assert moved.shape == images.shape and moved_labels.shape == labels.shape and moved_labels.dtype == torch.uint8
    values = (moved[:, 0] * 255 - 10) / 20
    exact = (values - values.round()).abs() < 1e-3  # but where bilinear interpolation mixes two classes
    wanted = torch.where(values < -0.4, VOID, values.round()).to(torch.uint8)
    assert exact.float().mean() > 0.8 and torch.equal(moved_labels[exact], wanted[exact])
    assert not torch.equal(moved_labels, labels)


# ---------------------------------------------------------------------------------------------- networks
def test_a_network_gives_logits_of_the_images_size():
    class Half(torch.nn.Module):
        def forward(self, images):
            assert images.shape[2] % 4 == images.shape[3] % 4 == 0
            return {"out": images[..., ::2, ::2]}

    images = torch.rand(1, 3, 21, 30)
    assert dense.logits(Half(), images, 4).shape == (1, 3, 21, 30)
    assert dense.logits(torch.nn.Identity(), images) is not None


def test_maps_are_enlarged_by_the_middles_of_their_pixels():
    """Those at the edges are not stretched over the corners, as torchvision does it too."""
    maps_ = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).expand(1, 3, 2, 2)
    close(dense.logits(lambda images: maps_, torch.rand(1, 3, 4, 4))[0, 0, 1], torch.tensor([0.0, 0.25, 0.75, 1.0]))


@pytest.mark.parametrize("name", ["unet-tiny", "torchvision.lraspp_mobilenet_v3_large", "torchvision.fcn_resnet50"])
def test_networks_by_name(name):
    like = Description("arch", "none", ("a", "b", "c"), (3, 40, 56), (0.5,) * 3, (0.5,) * 3, task=SEGMENTATION)
    made = new_classifier(name, like, 0).eval()
    with torch.no_grad():
        assert made(torch.rand(1, 3, 40, 56)).shape == (1, 3, 40, 56)
    assert made.description.dense and made.description.spelled == name


def test_what_is_no_network_for_segmentation_says_so():
    like = Description("arch", "none", ("a", "b"), (3, 32, 32), (0.5,) * 3, (0.5,) * 3, task=SEGMENTATION)
    refused("resnet8: is for classification, but the task is segmentation; use one of unet", new_classifier, "resnet8", like, 0)
    refused(
        "torchvision.resnet18: is not a segmentation network; .*fcn_resnet50", new_classifier, "torchvision.resnet18", like, 0
    )
    other = dataclasses.replace(like, task="classification")
    refused("unet: is for segmentation, but the task is classification", new_classifier, "unet", other, 0)
    refused("no classification model 'fcn_resnet50'", new_classifier, "torchvision.fcn_resnet50", other, 0)
    refused("shape .* not .*one logit per class and pixel", trial.require_fit, torch.nn.Identity(), like, "teacher")
    for outputs, kind in (((torch.zeros(1),) * 2, "tuple"), ({"logits": torch.zeros(1)}, "dict")):
        net = torch.nn.Identity()
        net.forward = lambda images, outputs=outputs: outputs
        refused(f"none returns a {kind}; .* logits alone, .* a dict that has them as 'out'", trial.require_fit, net, like, "t")
    refused("it takes sides of 16 pixels or more", new_classifier, "unet", dataclasses.replace(like, image_shape=(3, 8, 32)), 0)


def test_a_part_of_a_network_starts_from_a_file(tmp_path, teacher):
    part = {name: torch.full_like(value, 0.5) for name, value in teacher.net.down.state_dict().items()}
    torch.save(part, tmp_path / "encoder.pth")
    made = new_classifier("unet-tiny", teacher.description, 3)
    start.encoder(made, str(tmp_path / "encoder.pth"))
    assert all((value == 0.5).all() for value in made.net.down.state_dict().values() if value.is_floating_point())
    assert not any((value == 0.5).all() for value in made.net.up.parameters())
    torch.save({"conv.weight": torch.zeros(7, 7)}, tmp_path / "other.pth")
    refused("0 of its 49 values fit into unet-tiny", start.encoder, made, str(tmp_path / "other.pth"))


# ---------------------------------------------------------------------------------------------- data sets
def npz(tmp_path, **changed):
    rng = np.random.default_rng(0)
    arrays = {f"x_{split}": rng.integers(0, 256, (6, 20, 28, 3), np.uint8) for split in ("train", "test")}
    arrays |= {f"y_{split}": rng.integers(0, 4, (6, 20, 28)).astype(np.uint8) for split in ("train", "test")}
    np.savez(tmp_path / "set.npz", **{**arrays, **changed})
    return groups.Npz("npz", path=str(tmp_path / "set.npz"), task=SEGMENTATION, void=3, names=["a", "b", "c"])


def test_an_npz_with_maps(tmp_path):
    config = npz(tmp_path)
    found = readers.read(config)
    assert found.classes == ("a", "b", "c") and found.arrays["y_train"].dtype == np.uint8
    assert sorted(np.unique(found.arrays["y_train"])) == [0, 1, 2, VOID]
    dataset_file.write(tmp_path / "dataset.h5", "key", {}, found.classes, found.arrays)
    opened = dataset_file.open_dataset(tmp_path / "dataset.h5")
    assert opened.task == SEGMENTATION and opened.image_shape == SHAPE and opened.read("test", slice(2))[1].shape == (2, 20, 28)
    held = dataset.prepare(dataclasses.replace(config, val=0.34), found)
    assert [len(held[name]) for name in ("x_train", "y_train", "x_test", "y_test")] == [4, 4, 2, 2]


@pytest.mark.parametrize(("void", "expected"), [(0, [VOID, 0, 1, 2]), (1, [0, VOID, 1, 2]), (3, [0, 1, 2, VOID])])
@pytest.mark.parametrize("names", [["a", "b", "c"], []])
def test_void_may_be_any_label_and_has_no_name(tmp_path, void, expected, names):
    """The classes are what is left, in order; their number too, where no names say it."""
    config = dataclasses.replace(npz(tmp_path), void=void, names=names)
    stored = np.load(tmp_path / "set.npz")
    found = readers.read(config)
    assert found.classes == tuple(names or "012")
    for split in ("train", "test"):
        assert np.array_equal(found.arrays[f"y_{split}"], np.array(expected)[stored[f"y_{split}"]])


def test_two_classes_of_one_name_are_refused():
    """As a card refuses them."""
    for made in (groups.Npz("npz", path="a.npz", names=["car", "sky", "car"]),
                 groups.Masks(path="a", names=["car", "sky", "car"], height=8)):  # fmt: skip
        assert made.check() == "names lists 'car' twice; give each class its own name"
        assert dataclasses.replace(made, names=["car", "sky"]).check() is None


def test_void_below_the_classes_that_names_counts_is_refused(tmp_path):
    """The names would move by one, and the last class never occur."""
    without_last = np.random.default_rng(0).integers(0, 3, (6, 20, 28)).astype(np.uint8)
    config = dataclasses.replace(npz(tmp_path, y_train=without_last), void=0)
    refused("y_train has no label 3, but void is 0, and so the 3 classes are 1 to 3; leave void out", readers.read, config)
    config = dataclasses.replace(npz(tmp_path), void=1, names=["a", "b"])
    refused(r"y_train\[0\]: has the label 3, but the classes are 0 to 2 without 1 and void is 1", readers.read, config)


def test_masks_are_squashed_with_their_images(tmp_path):
    from PIL import Image

    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    columns = np.repeat(np.arange(4, dtype=np.uint8), 10)[None].repeat(20, 0)  # four stripes, 40 wide and 20 high
    for number in range(4):
        Image.fromarray(columns * 60).convert("RGB").save(tmp_path / f"images/{number}.png")
        Image.fromarray(columns).save(tmp_path / f"masks/{number}.png")
    config = groups.Masks("masks", path=str(tmp_path), names=list("abcd"), height=20, test_share=0.25)
    cut, squashed = (readers.read(dataclasses.replace(config, fit=fit)).arrays for fit in ("crop", "squash"))
    assert np.unique(cut["y_train"]).tolist() == [1, 2] and np.unique(squashed["y_train"]).tolist() == [0, 1, 2, 3]
    for given in (cut, squashed):
        there = given["x_train"][0, 0, 10, ::4] / 60
        assert np.abs(there - given["y_train"][0, 10, ::4]).max() <= 0.5


def test_maps_that_do_not_fit_say_so(tmp_path):
    refused(
        r"y_train\[0\]: has the label 3, but the classes are 0 to 2", readers.read, dataclasses.replace(npz(tmp_path), void=255)
    )
    negative = np.zeros((6, 20, 28), np.int16)
    negative[4, 3, 2] = -1
    refused(r"y_train\[4\]: has the label -1, .*; store void as 255", readers.read, npz(tmp_path, y_train=negative))
    refused("y_test has no pixel of a class, all are void", readers.read, npz(tmp_path, y_test=np.full((6, 20, 28), 3, np.uint8)))
    refused("give label maps N,H,W", readers.read, npz(tmp_path, y_train=np.zeros(6, np.uint8)))
    refused(
        "y_test has shape .*give each image a map of its size",
        readers.read,
        npz(tmp_path, y_test=np.zeros((6, 20, 27), np.uint8)),
    )
    plain = dataclasses.replace(npz(tmp_path), task="classification")
    refused("set task: segmentation, if they are label maps", readers.read, plain)


def test_masks_of_one_object_with_255_for_it_are_refused(tmp_path, capsys):
    """Programs that draw masks store the second of two classes as 255, which is void here: the object would count nowhere."""
    object_255 = np.zeros((6, 20, 28), np.uint8)
    object_255[:, 4:9, 4:9] = 255
    drawn = dataclasses.replace(npz(tmp_path, y_train=object_255, y_test=object_255), void=255, names=["ground", "tumour"])
    refused(
        "y_train has pixels of one class alone, 'ground'; 255 is void: if it marks a class, store that as 1", readers.read, drawn
    )
    right = np.minimum(object_255, 1)
    readers.read(dataclasses.replace(npz(tmp_path, y_train=right, y_test=object_255), void=255, names=["ground", "tumour"]))
    assert "WARNING" in (told := capsys.readouterr().err) and "y_test has no pixel of a class but 'ground'; 255 is void" in told
    readers.read(dataclasses.replace(npz(tmp_path, y_train=right, y_test=right), void=255, names=["ground", "tumour"]))
    assert "WARNING" not in capsys.readouterr().err
    refused(
        "y_train has pixels of one class alone, 'tumour'; give masks with two classes or more",
        readers.read,
        dataclasses.replace(npz(tmp_path, y_train=np.ones_like(right), y_test=right), void=255, names=["ground", "tumour"]),
    )


def test_classes_without_a_pixel_to_learn_from_are_named(tmp_path, capsys):
    readers.read(dataclasses.replace(npz(tmp_path), void=255, names=list("abcdefghijk")))
    assert "y_train has no pixel of 7 classes: e, f, g, h, i, ...\n" in capsys.readouterr().err


def masks(folder, **changed):
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number in range(5):
        labels = np.zeros((40, 40), np.uint8)
        labels[:, 20:] = 1 + number % 2
        Image.fromarray(np.repeat(labels[..., None] * 100, 3, 2)).save(folder / f"images/{number}.png")
        Image.fromarray(labels).save(folder / f"masks/{number}.png")
    return groups.Masks("masks", path=str(folder), names=["a", "b", "c"], height=20, width=28, **changed)


def test_a_folder_of_images_and_masks(tmp_path):
    found = readers.read(masks(tmp_path))
    images, labels = found.arrays["x_train"], found.arrays["y_train"]
    assert images.shape == (5, 3, 20, 28) and labels.shape == (5, 20, 28) and found.test_share == 0.2
    # Both are cut and shrunk alike: a pixel is bright where its mask has a class.
    assert (images[1, 0, :, :13] == 0).all() and (labels[1, :, :13] == 0).all()
    assert (images[1, 0, :, 15:] == 200).all() and (labels[1, :, 15:] == 2).all()


def test_a_look_reads_a_few_maps(tmp_path):
    config = masks(tmp_path)
    whole, look = readers.read(config), readers.read(config, most=3)
    assert look.classes == whole.classes and look.test_share == whole.test_share
    assert all(np.array_equal(look.arrays[name], whole.arrays[name][[0, 2, 4]]) for name in ("x_train", "y_train"))


def test_a_folder_train_without_images_and_masks_is_no_part(tmp_path):
    config = masks(tmp_path)
    (tmp_path / "train/notes").mkdir(parents=True)
    assert len(readers.read(config).arrays["x_train"]) == 5
    for folder in ("images", "masks"):
        (tmp_path / folder).rename(tmp_path / "train" / folder)
    assert len(readers.read(config).arrays["x_train"]) == 5
    (tmp_path / "train/masks").rename(tmp_path / "train/labels")
    refused("train: no folder masks/; give images/ and masks/ with matching", readers.read, config)


def test_masks_that_do_not_fit_say_so(tmp_path):
    config = masks(tmp_path)
    Image.new("L", (20, 40)).save(tmp_path / "masks/2.png")
    refused(r"^\S+masks/2.png: is 20x40, but its image is 40x40; use one size for both", readers.read, config)
    Image.new("RGB", (40, 40)).save(tmp_path / "masks/2.png")
    refused(r"^\S+masks/2.png: has the mode RGB; give an 8-bit grey or palette image", readers.read, config)
    (tmp_path / "masks/2.png").unlink()
    refused("images/ has '2', but the other folder does not; give an image", readers.read, config)


def test_a_label_that_is_no_class_is_that_of_a_file(tmp_path):
    config = masks(tmp_path)
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(tmp_path / "masks/3.png")
    refused(r"^\S+masks/3.png: has the label 9, but the classes are 0 to 2 and void is 255", readers.read, config)


def test_the_last_class_may_be_missing_where_the_number_of_classes_confirms_the_names(tmp_path):
    config = masks(tmp_path, void=0)
    refused("no label 3, but void is 0, .*, if no training mask has the last class, add classes: 3", readers.read, config)
    read = readers.read(dataclasses.replace(config, classes=3))
    assert read.classes == ("a", "b", "c") and np.unique(read.arrays["y_train"]).tolist() == [0, 1, VOID]
    refused("no label 3", readers.read, dataclasses.replace(config, names=[], classes=3))


TURNS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}  # to how it is stored


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("drawn_on", ["stored", "upright", "nothing"])
def test_a_photograph_lies_as_its_mask_does(tmp_path, orientation, drawn_on):
    """A mask has no EXIF tag: it was drawn on the image as it is stored, or as viewers show it, which its size tells."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    labels = np.zeros((24, 40), np.uint8)
    labels[:12, :20] = 1
    upright = Image.fromarray(labels * 200).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number in range(3):
        upright.transpose(TURNS[orientation]).save(tmp_path / f"images/{number}.png", exif=exif)
        mask = Image.fromarray(labels)
        mask = {"stored": mask.transpose(TURNS[orientation]), "upright": mask, "nothing": mask.resize((30, 30))}[drawn_on]
        mask.save(tmp_path / f"masks/{number}.png")
    height, width = (40, 24) if drawn_on == "stored" and orientation != 3 else (24, 40)
    config = groups.Masks("masks", path=str(tmp_path), names=["a", "b"], height=height, width=width)
    if drawn_on == "nothing":
        refused(r"^\S+masks/0.png: is 30x30, but its image is", readers.read, config)
    elif orientation == 3:
        refused(r"^\S+images/0.png: its EXIF tag turns it, and its mask does not tell .* remove the tag", readers.read, config)
    else:
        read = readers.read(config).arrays
        assert np.array_equal(read["x_train"][:, 0] > 100, read["y_train"] == 1) and (read["y_train"] == 1).mean() == 0.25


def grey_png(path, labels, bits):
    """A grey PNG of so many bits per pixel, as Pillow does not write it."""
    height, width = labels.shape
    packed = np.packbits(np.unpackbits(labels[..., None], axis=2)[..., 8 - bits :].reshape(height, -1), axis=1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0), b"IDAT": zlib.compress(rows), b"IEND": b""}
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts.items()
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_masks_of_fewer_bits_are_read_as_they_are_stored(tmp_path, bits):
    """Pillow gives 85 for the 1 of two bits, and 255, which is void, for the 3."""
    config = masks(tmp_path, test_share=0.4)
    labels = np.random.default_rng(0).integers(0, 4, (40, 40)).astype(np.uint8)
    for number in range(5):
        grey_png(tmp_path / f"masks/{number}.png", labels, bits)
    read = readers.read(dataclasses.replace(config, names=list("abcd"), height=40, width=40)).arrays
    assert (read["y_train"] == labels).all()


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_two_files_of_one_name_are_refused(tmp_path, kind):
    """One of them would be left out, and nobody told which."""
    config = masks(tmp_path)
    Image.new("L", (40, 40)).save(tmp_path / kind / "2.bmp")
    refused(f"{kind}: '2.bmp' and '2.png' have one name before the dot; rename or remove one", readers.read, config)


def test_what_file_managers_leave_in_a_folder_is_no_image(tmp_path):
    config = masks(tmp_path)
    before = readers.read(config).arrays
    for name in ("images/Thumbs.db", "images/desktop.ini", "masks/.DS_Store", "masks/Thumbs.db"):
        (tmp_path / name).write_bytes(b"icons")
    assert all(np.array_equal(before[name], value) for name, value in readers.read(config).arrays.items())


def test_drawn_shapes_have_exact_maps():
    found = readers.read(groups.DrawnShapes("drawn-shapes", drawn=16, height=20, width=28))
    assert found.classes == shapes.CLASSES and found.arrays["x_test"].shape == (4, *SHAPE)
    images, labels = shapes.scenes_with_maps(64, 40, 56, torch.Generator().manual_seed(0))
    assert set(labels.unique().tolist()) == {0, 1, 2, 3} and images.min() >= 0 and images.max() <= 1
    # Inside a disc or a rectangle the colour is one, but for the noise; on the ground it varies.
    spread = [images[:, :, :, 1:][..., None].new_tensor(0.0)]
    for kind in (1, 2):
        inside = (labels[:, :, 1:] == kind) & (labels[:, :, :-1] == kind)
        spread.append((images[..., 1:] - images[..., :-1]).abs().mean(1)[inside].median())
    assert max(spread[1:]) < 0.06


def test_drawn_test_images_are_none_of_the_training_images():
    first, again, other = (
        readers.read(groups.DrawnShapes(drawn=16, height=20, width=28, seed=seed)).arrays for seed in (0, 0, 1)
    )
    assert all(np.array_equal(first[name], again[name]) and not np.array_equal(first[name], other[name]) for name in first)
    training = {image.tobytes() for image in first["x_train"]}
    assert len(training) == 16 and not training & {image.tobytes() for image in first["x_test"]}


# ---------------------------------------------------------------------------------------------- transfer sets, balance
def write(path, labels, classes=3, weights=None):
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 3, *labels.shape[1:]), np.uint8)
    layout = Layout(images.shape[1:], classes, targets=False, weights=weights is not None, task=SEGMENTATION)
    writer = Writer(path, "key", layout, len(labels), resume=False)
    more = {} if weights is None else {"weights": weights}
    writer.append(images=images, labels=labels, round=np.zeros(len(labels)), **more)
    writer.finish({}, {"label": "test"})
    return path


def test_a_set_of_maps_has_no_logits(tmp_path, teacher):
    labels = np.random.default_rng(1).integers(0, 3, (4, 20, 28)).astype(np.uint8)
    path = write(tmp_path / "transfer_set.h5", labels)
    with TransferSet(path) as found:
        assert "logits" not in found and found.layout.dense and found.layout.num_classes == 3
        assert np.array_equal(found.read("labels"), labels) and np.array_equal(found[1][1], labels[1])
        assert class_counts(found).tolist() == np.bincount(labels.ravel()).tolist()
        found.require_fit(teacher.description)
        refused("is for segmentation, but the teacher is for classification", found.require_fit,
                dataclasses.replace(teacher.description, task="classification"))  # fmt: skip
    assert verify(path) == []
    wrong = labels.copy()
    wrong[0, 0, 0] = 3
    with pytest.raises(ValueError, match="broadcast"):  # not even written
        write(tmp_path / "wrong.h5", wrong)


@pytest.mark.parametrize("classes", [0, 1000, 2.0, [3, 3]])
def test_a_number_of_classes_that_a_set_of_maps_cannot_have(tmp_path, classes):
    path = write(tmp_path / "transfer_set.h5", np.zeros((4, 20, 28), np.uint8))
    with h5py.File(path, "r+") as file:
        del file.attrs["num_classes"]
        file.attrs["num_classes"] = classes
    with pytest.raises(UserError, match="not a set for segmentation"):
        TransferSet(path)


@pytest.mark.parametrize(("field", "shape"), [("logits", (4, 3)), ("images", (4, 3, 0, 28))])
def test_a_set_of_maps_with_logits_or_without_pixels_is_none(tmp_path, field, shape):
    path = write(tmp_path / "transfer_set.h5", np.zeros((4, 20, 28), np.uint8))
    with h5py.File(path, "r+") as file:
        if field in file:
            del file[field]
        file.create_dataset(field, data=np.zeros(shape, "f4"))
    with pytest.raises(UserError, match="not a set for segmentation"):
        TransferSet(path)


def test_the_class_that_stands_out_and_weights_by_hand():
    labels = np.zeros((3, 2, 4), np.uint8)
    labels[1, 0, 0] = 1
    labels[2, 0, :2] = 1
    shares = segmentation.shares(labels, 3)
    assert shares.tolist() == [[1, 0, 0], [0.875, 0.125, 0], [0.75, 0.25, 0]]
    assert segmentation.dominant(shares).tolist() == [0, 0, 1]  # 0.875 / 0.875 ties with 0.125 / 0.125
    few = np.array([[0.999, 0.001, 0.0], [0.99, 0.0, 0.01], [1.0, 0.0, 0.0]])  # a pixel or two stand for nothing
    assert segmentation.dominant(few).tolist() == [0, 2, 0]
    weights = segmentation.weights(shares)
    np.testing.assert_allclose(weights, [0.5 / 0.875, 1.0, (0.75 / 0.875 + 2) / 2])
    assert weights.mean() == pytest.approx(1)


def balanced(tmp_path, teacher, config, labels):
    with TransferSet(write(tmp_path / "transfer_set.h5", labels)) as transfer:
        layout = dataclasses.replace(transfer.layout, weights=config.mode == "weight", source=config.mode == "equal")

        def begin(total):
            return Writer(tmp_path / "balanced.h5", "key", layout, total, resume=False)

        writer, stats = balance.MODES[config.mode](config, teacher, transfer, begin, CPU)
        writer.finish({}, {})
    return TransferSet(tmp_path / "balanced.h5"), stats


def test_copies_in_which_the_class_is_gone_do_not_stand_for_it(tmp_path, teacher, monkeypatch):
    labels = np.zeros((8, 20, 28), np.uint8)
    labels[7, :4] = 1
    answers = np.zeros((3, 20, 28), np.uint8)
    answers[1, 5, 5] = 1
    monkeypatch.setattr(balance.maps, "predict", lambda *_: answers.copy())
    found, stats = balanced(tmp_path, teacher, groups.EqualBalance("equal"), labels)
    with found as made:
        assert len(made) == 6 and stats["resampled"] == 1 and np.array_equal(made.read("labels")[5], answers[1])


def test_balance_by_images_makes_no_copies_where_none_are_wanted(tmp_path, teacher):
    labels = np.zeros((8, 20, 28), np.uint8)
    labels[7, :4] = 1
    found, stats = balanced(tmp_path, teacher, groups.EqualBalance("equal", deficit="short", per_class=3), labels)
    with found as made:
        assert len(made) == 4 and stats["per_class"] == 3 and stats["resampled"] == 0
    found, stats = balanced(tmp_path, teacher, groups.EqualBalance("equal", deficit="short"), labels)
    with found as made:
        assert len(made) == 2 and stats["per_class"] == 1 and made.read("source")[1] == 7


def test_balance_by_images_and_by_pixels(tmp_path, teacher):
    labels = np.zeros((8, 20, 28), np.uint8)
    labels[7, :4] = 1
    found, stats = balanced(tmp_path, teacher, groups.EqualBalance("equal"), labels)
    with found as made:
        # Of eight images class 1 stands out in one: four of each, and the teacher says what it sees in the mirrored ones.
        assert len(made) == 8 and stats["per_class"] == 4 and stats["resampled"] == 3
        mirrored = made.read("images")[4:, ..., ::-1]
        assert sum((one == mirrored[1]).all() for one in mirrored) == 3
        answers = maps.predict(teacher, made.read("images")[5:], CPU)
        assert np.array_equal(made.read("labels")[5:], answers) and stats["stands_out_nowhere"] == ["2"]
        source = made.read("source")
        assert source[4:].tolist() == [7] * 4
        with TransferSet(tmp_path / "transfer_set.h5") as transfer:
            originals = transfer.read("images")[source]
        assert np.array_equal(made.read("images")[:5], originals[:5])
        assert np.array_equal(made.read("images")[5:], originals[5:, ..., ::-1])  # left and right changed, the top still above
    found, _ = balanced(tmp_path, teacher, groups.WeightBalance("weight"), labels)
    with found as made:
        weights = made.read("weights")
        assert weights[7] > 2 * weights[0] and weights.mean() == pytest.approx(1, abs=1e-6)
    found, _ = balanced(tmp_path, teacher, groups.ConfidenceBalance("confidence", threshold=0.0), labels)
    with found as made:
        assert len(made) == 8


# ---------------------------------------------------------------------------------------------- distillation, evaluation
def test_a_student_learns_maps_and_each_way_to_draw_works(tmp_path, teacher):
    labels = np.random.default_rng(1).integers(0, 3, (12, 20, 28)).astype(np.uint8)
    with TransferSet(write(tmp_path / "transfer_set.h5", labels, weights=np.ones(12, np.float32))) as transfer:
        for how in ({}, {"sampling": "hard", "augment": "none"}, {"sampling": "priority", "loss": "l1"},
                    {"sampling": "given", "mix": "cutmix"}, {"select": "agreement"}):  # fmt: skip
            config = groups.Student("unet-tiny", epochs=2, batch=4, tau=1.0, **how)
            student, history = distill.distill(config, teacher, transfer, tmp_path / "partial", f"key{how}", CPU)
            assert student.description.dense and len(history) == 2 and math.isfinite(history[-1]["loss"])
            assert "agreement" not in history[-1] or 0 <= history[-1]["agreement"] <= 1


def test_stored_answers_are_refused(teacher):
    config = types.SimpleNamespace(views_kept=2, method="fast", view_s="none")
    student = types.SimpleNamespace(net=teacher)
    refused("transfer: fast: views_kept: .*set views_kept: 0", stored_answers.build, config, None, student)
    kept = types.SimpleNamespace(views_kept=2, augment="shift", precision="fp32")
    refused("student: views_kept: .*set views_kept: 0", distill.keep_views, kept, teacher.description, 4, teacher, CPU)


def test_a_network_of_another_task_is_not_evaluated(tmp_path, teacher):
    arrays = {f"x_{split}": np.zeros((2, *SHAPE), np.uint8) for split in ("train", "test")}
    arrays |= {f"y_{split}": np.arange(2) for split in ("train", "test")}
    dataset_file.write(tmp_path / "dataset.h5", "key", {}, ("a", "b"), arrays)
    opened = dataset_file.open_dataset(tmp_path / "dataset.h5")
    refused("teacher.h5: is for segmentation, .* for classification", evaluate.check, teacher.description, "teacher.h5", opened)


def test_maps_are_compared_on_probes_that_the_student_did_not_learn_from(teacher):
    """Nor on any other kind that the same module draws: params/transfer/zskd/zskd.yaml starts from noise."""
    job = types.SimpleNamespace(out=Path("results/own/unet-tiny/zskd/none/tiny/metrics.json"), inputs=["student", "teacher"])
    (figures,) = evaluate.maps_on_probes([classifier("unet-tiny", SHAPE, 3, seed=1)], teacher, job, CPU)
    other_kinds = [kind for kind in probes.DRAW if kind not in ("uniform", "gaussian", "smooth")]
    assert [one["kind"] for one in figures["probe_kinds"]] == [*other_kinds, probes.MOSAIC]


@pytest.mark.parametrize("spoilt", ["student", "teacher"])
def test_maps_that_are_not_finite_are_not_measured(teacher, spoilt):
    networks = {"student": classifier("unet-tiny", SHAPE, 3, seed=1), "teacher": classifier("unet-tiny", SHAPE, 3)}
    torch.nn.init.constant_(list(networks[spoilt].parameters())[-1], float("nan"))
    batches, job = [(torch.rand(2, *SHAPE), None)], types.SimpleNamespace(inputs=list(networks))
    refused(f"^{spoilt}: its logits on the probe images are not finite; train it again with a smaller lr$",
            evaluate.count, [networks["student"]], networks["teacher"], batches, job, "probe", CPU)  # fmt: skip


def test_all_test_maps_are_looked_at_and_void_pixels_are_not_wrong(tmp_path, teacher, monkeypatch, capsys):
    """Six images, four at a time; the truth is what the teacher says, but for a row of void."""
    images = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), np.uint8)
    truth = maps.predict(teacher, images, CPU)
    truth[:, 0] = VOID
    arrays = {f"{kind}_{split}": value for kind, value in (("x", images), ("y", truth)) for split in ("train", "test")}
    dataset_file.write(tmp_path / "dataset.h5", "key", {}, ("a", "b", "c"), arrays)
    opened = dataset_file.open_dataset(tmp_path / "dataset.h5")
    monkeypatch.setattr(memory, "passed", lambda shape: 4)
    monkeypatch.setattr(look, "look", lambda teacher: [])  # what it makes of drawn images
    assert [len(labels) for _, labels in evaluate.labelled(opened)] == [4, 2]
    teacher_step.inspect(teacher, opened, CPU)
    assert f"predicts 100.00 % of {6 * 19 * 28} pixels of test images correctly" in capsys.readouterr().err


class Recorder(nn.Module):
    """A logit of each of 26 classes for each pixel; remembers how many images came at once."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, images):
        self.sizes.append(len(images))
        return images[:, :1] * torch.linspace(-1, 1, 26)[:, None, None]


@pytest.mark.parametrize("where", ["test images", "probes", "set", "confidence", "other images", "student", "log", "teacher"])
def test_no_pass_holds_more_logits_than_memory_allows(tmp_path, monkeypatch, where):
    """The logits of 26 classes take as much as images of 7 channels: three at once, where seven images would fit."""
    network = wrap(Recorder(), (3, 8, 8), 26, task=SEGMENTATION)
    network.classes = network.description.classes
    images, truth = np.random.default_rng(0).integers(0, 256, (7, 3, 8, 8), np.uint8), np.zeros((7, 8, 8), np.uint8)
    monkeypatch.delenv("DFKD_MEMORY", raising=False)
    monkeypatch.setattr(memory, "VALUES", 3 * 7 * 8 * 8)
    if where == "test images":
        opened = types.SimpleNamespace(image_shape=(3, 8, 8), classes=network.classes, sizes={"test": 7},
                                       read=lambda split, rows: (images[rows], truth[rows]))  # fmt: skip
        assert [len(labels) for _, labels in evaluate.labelled(opened)] == [3, 3, 1]
        return
    if where == "probes":
        monkeypatch.setattr(evaluate.params, "load", lambda group, text: None)
        monkeypatch.setattr(evaluate.keys, "chosen_code", lambda config: [[]])
        monkeypatch.setattr(evaluate.spec, "of_path", lambda path: {"transfer": ""})
        monkeypatch.setattr(evaluate.probes, "draw", lambda *given: [("scenes", torch.from_numpy(images))])
        evaluate.maps_on_probes([network], network, types.SimpleNamespace(out="", inputs=["s", "t"]), CPU)
    elif where == "set":
        assert (maps.predict(network, images, CPU) == network(torch.from_numpy(images / 255).float()).argmax(1).numpy()).all()
        network.net.sizes.pop()
    elif where == "other images":
        other_maps.figures({"student": network}, images, truth)
    elif where == "teacher":
        opened = types.SimpleNamespace(image_shape=(3, 8, 8), has_images=True, sizes={"test": 7},
                                       read=lambda split, rows: (images[rows], truth[rows]))  # fmt: skip
        monkeypatch.setattr(look, "look", lambda teacher: [])
        teacher_step.inspect(network, opened, CPU)
    elif where == "log":
        monkeypatch.setattr(look, "SAMPLES", 7)
        look.look(network)
    else:
        with TransferSet(write(tmp_path / "transfer_set.h5", truth, classes=26)) as transfer:
            if where == "student":
                assert distill.Images(transfer, CPU).at_once == 3
                return
            selection.confidence(transfer, network, CPU)
    assert max(network.net.sizes) == 3 and sum(network.net.sizes) % 7 == 0


def test_the_sheet_of_test_images_shows_void_as_the_image():
    images = np.full((1, 1, 6, 8), 100, np.uint8)
    maps_ = {name: np.zeros((1, 6, 8), np.uint8) for name in examples.COLUMNS[1:]}
    maps_["truth"][:] = VOID
    content = examples.sheet(images, maps_, 2)
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert pixels.shape == (8, 40, 3)
    assert abs(pixels[2, 3] - 100).max() <= 2 and abs(pixels[2, 13] - 100).max() <= 2
    wanted = 0.6 * examples.palette(2)[0] + 40
    assert abs(pixels[2, 23] - wanted).max() <= 2 and abs(pixels[2, 33] - wanted).max() <= 2


class Always(nn.Module):
    """One class of three, whatever the image."""

    def __init__(self, label):
        super().__init__()
        self.label = label

    def forward(self, images):
        return torch.eye(3)[self.label][:, None, None].expand(len(images), 3, *images.shape[2:])


def test_each_column_of_the_sheet_has_the_maps_of_its_name():
    """On a black image the truth calls all of it by class 0, the teacher by 1 and the student by 2."""
    black, truth = np.zeros((1, 3, 6, 8), np.uint8), np.zeros((1, 6, 8), np.uint8)
    opened = types.SimpleNamespace(sizes={"test": 1}, classes=("a", "b", "c"), read=lambda split, rows: (black, truth))
    teacher, student = (wrap(Always(label), (3, 6, 8), 3, task=SEGMENTATION) for label in (1, 2))
    content = evaluate.drawn_examples(student, teacher, opened, CPU)
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    for label, name in enumerate(("truth", "teacher", "student")):
        across = 10 * examples.COLUMNS.index(name) + 3
        assert abs(pixels[2, across] - 0.6 * examples.palette(3)[label]).max() <= 2


def test_a_network_file_says_its_task(tmp_path, teacher):
    path = tmp_path / "teacher.safetensors"
    network_file.save(path, teacher.net, teacher.description, "key", {})
    loaded = network_file.load_frozen(path)
    images = torch.rand(2, *SHAPE)
    assert isinstance(loaded, Classifier) and loaded.description == teacher.description and verify(path) == []
    close(loaded(images), teacher(images), atol=1e-5)


@pytest.mark.parametrize("name", ["camvid-npz", "nyuv2-npz", "drawn-shapes"])
def test_data_sets_for_segmentation_in_params(name):
    config = params.load("dataset", name, ROOT / "params")
    assert config.source == "drawn-shapes" or (config.task == SEGMENTATION and len(config.names) in (11, 13))


def test_a_set_of_maps_goes_on_after_a_kill(tmp_path):
    layout, rng = Layout(SHAPE, 3, targets=False, task=SEGMENTATION), np.random.default_rng(0)
    batches = [
        {
            "images": rng.integers(0, 256, (4, *SHAPE), np.uint8),
            "labels": rng.integers(0, 3, (4, *SHAPE[1:])),
            "round": np.zeros(4),
        }
        for _ in range(2)
    ]
    for name, stops in (("whole.h5", [2]), ("killed.h5", [1, 2])):
        for stop in stops:
            writer = Writer(tmp_path / name, "key", layout, 8)
            for batch in batches[writer.batches : stop]:
                writer.append(**batch)
        assert writer.counts.sum() == 8 * 20 * 28
        writer.finish({}, {})
    assert (tmp_path / "whole.h5").read_bytes() == (tmp_path / "killed.h5").read_bytes()


def test_a_segmentation_network_in_onnx_takes_any_number_of_images(teacher, monkeypatch):
    content = onnx_file.onnx_bytes(onnx_file.program_of(teacher), teacher.description)
    images, running, sizes = torch.rand(3, *SHAPE), onnx_file.OnnxClassifier(content), []
    close(running(images), teacher(images), atol=1e-4)
    assert running.pixel_logits == 3
    session, running.pixel_logits = running.session, 24  # as many logits as six channels
    running.session = types.SimpleNamespace(
        run=lambda names, given: sizes.append(len(given["input"])) or session.run(names, given)
    )
    monkeypatch.delenv("DFKD_MEMORY", raising=False)
    monkeypatch.setattr(memory, "VALUES", 2 * 6 * 20 * 28)
    close(running(images), teacher(images), atol=1e-4)
    assert sizes == [2, 1]


def test_the_generator_of_dfad_for_segmentation_at_its_size(teacher):
    like = dataclasses.replace(teacher.description, image_shape=(3, 128, 128))
    made = build_generator(like, latent=256, width=128, arch="dfad-segmentation", seed=0)
    assert made.dense.out_features == 512 * 8 * 8
    assert [stage[0].out_channels for stage in made.stages] == [256, 128, 64, 64]
    assert all(stage[0].kernel_size == (4, 4) and stage[0].stride == (2, 2) for stage in made.stages)
    assert made.dense.weight.std().item() == pytest.approx(0.02, rel=0.01)
    images = made(torch.randn(2, 256))
    assert images.shape == (2, 3, 128, 128) and images.min() >= 0 and images.max() <= 1


def test_adversarial_losses_over_pixels_by_hand(teacher):
    images, other = torch.rand(2, *SHAPE), classifier("unet-tiny", SHAPE, 3, seed=1)
    student_logits, teacher_logits = other(images), teacher(images)
    gap = (student_logits - teacher_logits).abs().mean()
    each = losses.kd_places(student_logits, teacher_logits, 1.0)
    agree = student_logits.argmax(1) == teacher_logits.argmax(1)
    wanted = {"l1": -gap, "l1-log": -torch.log(1 + gap), "kl": -each.mean(), "decision": -(each * agree).mean()}
    for distance, by_hand in wanted.items():
        config = types.SimpleNamespace(method="dfad", adversarial=1.0, distance=distance, precision="fp32")
        close(objective.Objective(config, teacher)(images, None, other), by_hand)


def test_windows_lie_in_the_image_and_are_uniform_in_the_logarithm_of_their_size():
    line = torch.linspace(0, 1, 32)
    images = torch.stack([line.expand(32, 32), line.view(-1, 1).expand(32, 32)]).expand(2000, 2, 32, 32)
    moved, _ = supervised_maps.zoom(images, torch.zeros(2000, 32, 32, dtype=torch.uint8), 3.0, torch.Generator().manual_seed(0))
    across, down = moved[:, 0, 16], moved[:, 1, :, 16]
    factors = (1 / 31) / across.diff(dim=1)[:, 8:24].mean(1)
    assert factors.min() > 0.99 and factors.max() < 4.05
    assert factors.log().mean().item() == pytest.approx(math.log(4) / 2, abs=0.03)
    for part in (across, down):  # nothing from beyond the edges but half of the outermost pixels
        assert part.diff(dim=1)[:, 2:-2].min() > 0


def test_confidence_is_the_mean_over_the_pixels():
    """Of two classes at odds of 3, of 1 and of 1/3: probabilities of 0.75, 0.5 and 0.75."""
    odds = torch.tensor([[3.0, 1.0, 1 / 3, 1.0], [3.0, 3.0, 3.0, 3.0]]).log()[:, None, None]
    logits = torch.cat([odds, torch.zeros_like(odds)], 1)
    images = np.zeros((2, 3, 1, 4), np.uint8)
    parts = iter((logits[:1], logits[1:]))
    assert maps.confidence(lambda _: next(parts), images, "cpu", 1).tolist() == pytest.approx([0.625, 0.75])


def test_the_part_with_the_most_values_starts_from_a_file(tmp_path):
    """Not that with the most tensors."""

    def part(many, few):
        return torch.nn.ParameterDict({"weight": torch.zeros(many), "a": torch.zeros(few), "b": torch.zeros(few)})

    net = torch.nn.ModuleDict({"large": part(50, 3), "small": part(40, 2)})
    torch.save({"weight": torch.ones(50), "a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "x.pth")
    start.encoder(types.SimpleNamespace(net=net, description=types.SimpleNamespace(name="some")), str(tmp_path / "x.pth"))
    assert net["large"]["weight"].all() and not any(net["small"][name].any() for name in ("weight", "a", "b"))


def test_a_seed_draws_the_shapes_that_it_has_always_drawn():
    images, drawn = shapes.scenes_with_maps(6, 48, 64, torch.Generator().manual_seed(0))
    expected = torch.tensor([0.611, 0.464, 0.512, 0.484, 0.484, 0.679])
    torch.testing.assert_close(images.mean((1, 2, 3)), expected, atol=1e-3, rtol=0)
    pixels = torch.stack([(drawn == label).sum((1, 2)) for label in (1, 2, 3)])
    expected = torch.tensor([[0, 517, 803, 0, 238, 0], [0, 0, 360, 0, 0, 0], [489, 0, 0, 565, 266, 460]])
    assert (pixels - expected).abs().max() < 4  # an edge may fall on another pixel


def test_images_are_padded_by_their_edge():
    """Below and on the right, up to the next multiple of four."""
    given, images = [], torch.rand(1, 2, 3, 6)
    logits = dense.logits(lambda padded: given.append(padded) or padded, images, 4)
    (padded,) = given
    assert padded.shape == (1, 2, 4, 8) and torch.equal(padded[..., :3, :6], images) and torch.equal(logits, images)
    assert torch.equal(padded[:, :, 3], padded[:, :, 2]) and torch.equal(padded[..., 6:], padded[..., 5:6].expand(1, 2, 4, 2))


def test_a_network_of_smp_that_is_not_built_in_outline_comes_back(tmp_path):
    pytest.importorskip("segmentation_models_pytorch")
    described = Description("smp", "unet.mit_b0", ("a", "b"), (3, 32, 32), (0.5,) * 3, (0.5,) * 3, task=SEGMENTATION)
    made = new_classifier("smp.unet.mit_b0", described, 0)
    (tmp_path / "student.safetensors").write_bytes(network_file.to_bytes(made))
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        close(network_file.load(tmp_path / "student.safetensors")(images), made.eval()(images), 1e-3, 1e-4)
