"""What ``dfkd new`` finds out: the task of a teacher by what it gives, which preset goes with it, what a first try costs."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from small_net import classifier, wrap
from told import require_remedy
from torch import nn

from dfkd_steps import new
from dfkd_steps.datasets import readers
from dfkd_steps.methods import registry as method_registry
from dfkd_steps.models.classifier import Classifier, build_architecture
from dfkd_steps.models.tasks import CLASSIFICATION, SEGMENTATION
from dfkd_steps.pipeline import params
from dfkd_steps.reporting import first_try, params_files
from dfkd_steps.runtime import memory
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups

NAME = "first-try"  # no other test's, as what is read in params/ is kept in memory
NETS = """
import torch
from torch import nn
class Maps(nn.Module):
    def __init__(self, num_classes, form):
        super().__init__()
        self.layer, self.form = nn.Conv2d(3, num_classes, 1), form
    def forward(self, images):
        return self.form(self.layer(images))
def maps(num_classes):
    return Maps(num_classes, lambda found: found[..., ::4, ::4])
def named(num_classes):
    return Maps(num_classes, lambda found: {"out": found, "aux": found})
def pooled(num_classes):
    return Maps(num_classes, lambda found: found.mean((2, 3), keepdim=True))
def logits(num_classes):
    return Maps(num_classes, lambda found: found.mean((2, 3)))
def pair(num_classes):
    return Maps(num_classes, lambda found: (found, found))
def sized(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(7, num_classes))
"""


@pytest.fixture
def workplace(for_new):
    (for_new / "first_nets.py").write_text(NETS)
    torch.manual_seed(0)
    torch.save(build_architecture("unet-tiny", 3, (3, 32, 40)).state_dict(), "maps.pth")
    return for_new


@pytest.mark.parametrize(("builder", "name", "task"), [
    ("arch", "unet", SEGMENTATION), ("arch", "resnet8", CLASSIFICATION), ("arch", "none", None),
    ("smp", "unet.resnet18", SEGMENTATION), ("torchvision", "lraspp_mobilenet_v3_large", SEGMENTATION),
    ("torchvision", "resnet18", CLASSIFICATION), ("timm", "resnet18", CLASSIFICATION),
    ("factory", "first_nets:maps", SEGMENTATION), ("factory", "first_nets:named", SEGMENTATION),
    ("factory", "first_nets:pooled", CLASSIFICATION), ("factory", "first_nets:logits", CLASSIFICATION),
    ("factory", "first_nets:pair", CLASSIFICATION), ("factory", "first_nets:sized", None),
])  # fmt: skip
def test_the_task_is_what_a_teacher_gives(workplace, builder, name, task):
    assert first_try.task_of(builder, name, 3, (3, 32, 40)) == task


@pytest.mark.parametrize(("shape", "task"), [
    (("n", 3, 8, 8), SEGMENTATION), (("n", 3), CLASSIFICATION), (("n", 3, 1, 1), CLASSIFICATION), (("n", 3, 1, 8), SEGMENTATION),
    (None, None),
])  # fmt: skip
def test_the_task_of_an_onnx_file_is_that_of_the_shape_of_its_output(tmp_path, shape, task):
    onnx = pytest.importorskip("onnx")
    given, output = (onnx.helper.make_tensor_value_info(name, 1, form) for name, form in (("x", ("n", 3, 8, 8)), ("y", shape)))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [given], [output])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a.onnx")
    assert first_try.task_of("onnx", str(tmp_path / "a.onnx"), 3, (3, 8, 8)) == task
    assert first_try.task_of("onnx", str(tmp_path / "none.onnx"), 3, (3, 8, 8)) is None


def test_presets_for_the_task_and_a_cpu_come_first(workplace):
    assert first_try.preset("dfad", SEGMENTATION) == "dfad-segmentation-cpu"
    assert first_try.preset("noise", SEGMENTATION) == "noise" and first_try.preset("fast", CLASSIFICATION) == "fast-2"
    assert first_try.preset("none", SEGMENTATION) is None


def test_each_method_that_fits_maps_begins_with_its_preset(workplace):
    teacher = classifier("unet-tiny", (3, 32, 40), 3)
    found = first_try.fitting(teacher, "unet-tiny")
    assert {name for name, _, why in found if not why} == {"deepinversion", "dfad", "fast", "noise", "procedural", "ssd-kd"}
    assert ("dfad", "dfad-segmentation-cpu", "") in found
    assert all(why == "is for classification, but the teacher is for segmentation" for _, _, why in found if why)


def test_a_teacher_of_maps_without_batchnorm_has_a_method_that_fits(workplace):
    """As SegFormers have none, and ONNX files whose BatchNorm was folded; the list names the preset that is written."""
    maps = classifier("unet-tiny", (3, 24, 36), 3).description
    found = first_try.fitting(Classifier(nn.Conv2d(3, 3, 1), maps).eval().requires_grad_(False), "unet-tiny")
    assert {(name, preset) for name, preset, why in found if not why} == {
        ("dfad", "dfad-segmentation-plain-cpu"), ("noise", "noise"), ("procedural", "procedural")
    }  # fmt: skip


def test_methods_are_tried_within_a_few_gib_and_after_the_costs(workplace, monkeypatch):
    """A method that takes more says so; and what the first one to try takes is not what another one held."""
    seen, noise = [], method_registry.load("noise")

    class Watched(noise):
        def __init__(self, *given):
            seen.append(memory.given())
            raise UserError("noise: needs 6.6 GiB; take another method")

    monkeypatch.setattr(method_registry, "load", lambda name: Watched)
    costs = first_try.costs
    monkeypatch.setattr(first_try, "costs", lambda *how: seen.append("costs") or costs(*how))
    make_new("--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    assert seen[0] == "costs" and set(seen[1:]) == {4.0} and memory.given() is None
    monkeypatch.setenv("DFKD_MEMORY", "2")
    found = first_try.fitting(classifier("unet-tiny", (3, 32, 40), 3), "unet-tiny")
    assert ("noise", "noise", "noise: needs 6.6 GiB; take another method") in found
    assert seen[-1] == 2.0 and memory.given() == 2.0


def test_training_on_maps_pays_for_the_teacher_too(workplace, monkeypatch):
    """Neither views nor maps have stored answers; stored images of a classifier have."""
    asked, logits = [], first_try.frozen.logits
    monkeypatch.setattr(first_try.frozen, "logits", lambda *how: asked.append(how) or logits(*how))
    maps, flat = classifier("unet-tiny", (3, 32, 40), 3), classifier("resnet8", (3, 32, 32), 3)
    for teacher, student, kind, times in ((maps, "unet-tiny", "none", True), (flat, "resnet8", "none", False),
                                          (flat, "resnet8", "shift", True)):  # fmt: skip
        asked.clear()
        config = groups.Student(student, epochs=2, batch=4, augment=kind, steps_per_epoch=5)
        shape = teacher.description.image_shape
        cost = first_try.costs(teacher, classifier(student, shape, 3, seed=1).requires_grad_(True), config, "scenes", 100)
        assert bool(asked) == times and cost["fp32"] > 0
    row = 3 * 32 * 32 + 4 * 3 * 2 + 12
    assert cost["disk"] == 100 * row
    learner = classifier("unet-tiny", (3, 32, 40), 3).requires_grad_(True)
    assert first_try.costs(maps, learner, groups.Student("unet-tiny", batch=4), "scenes", 100)["disk"] == 100 * (4 * 32 * 40 + 4)


@pytest.mark.parametrize(("arch", "shape"), [("unet-tiny", (3, 32, 40)), ("resnet8", (3, 32, 32))])
def test_the_teacher_is_shown_no_more_images_at_once_than_memory_allows(workplace, monkeypatch, arch, shape):
    """Of 50 images of 512 x 1024 pixels and 19 classes the logits alone take 2 GB."""
    teacher, student, seen = classifier(arch, shape, 3), classifier(arch, shape, 3).requires_grad_(True), []
    teacher.net.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
    monkeypatch.setattr(memory, "passed", lambda shape: 7)
    first_try.costs(teacher, student, groups.Student(arch, epochs=1, batch=4, augment="none"), "scenes", 100)
    assert max(seen) == 7 and sum(seen[:8]) == 50


def make_new(*more):
    how = ["--teacher", "unet-tiny", "--checkpoint", "maps.pth", "--size", "32x40"]
    return new.run([NAME, *how, "--classes", "a,b,c", "--student", "unet-tiny", *more])


def test_a_data_set_of_images_and_masks_in_place_of_a_card(workplace, capsys):
    for kind, mode in (("images", "RGB"), ("masks", "L")):
        (workplace / "own" / kind).mkdir(parents=True)
        for row in range(5):
            Image.fromarray(np.full((40, 50, 3)[: 3 if mode == "RGB" else 2], row % 3, np.uint8)).save(f"own/{kind}/{row}.png")
    make_new("--data", "own", "--test", "own", "--void", "2", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    made, taught, student = (params.load(group, NAME) for group in ("dataset", "teacher", "student"))
    assert isinstance(made, groups.Masks) and (made.path, made.void, made.names) == ("own", 2, ["a", "b", "c"])
    assert (made.height, made.width, made.channels) == (32, 40, 3) and taught.mean == [0.5] * 3
    assert (student.arch, student.tau, student.batch, student.steps_per_epoch) == ("unet-tiny", 1.0, 16, 30)
    said = capsys.readouterr().out
    for transfer in ("procedural+batch=50+kind=scenes+n=2000", "dataset+batch=50+source=own"):
        assert f"  snakemake results/{NAME}/{NAME}/{transfer}/none/{NAME}/metrics.json" in said
        params.load("transfer", transfer)
    assert "--images own --void 2" in said and "only the last command reads" not in said  # the data set has these images too


def test_the_order_of_the_classes_goes_into_a_data_set_of_folders(workplace):
    (workplace / "pets").mkdir()
    how = ["--teacher", "resnet8", "--checkpoint", "a.pth", "--student", "resnet8", "--size", "32", "--data", "pets"]
    made = params_files.contents(new.parser().parse_args([NAME, *how, "--classes", "dog,cat"]))["dataset"]
    assert made == {"source": "images", "path": "pets", "size": 32, "names": ["dog", "cat"]}
    whole = params_files.contents(new.parser().parse_args([NAME, *how, "--classes", "dog,cat", "--keep", "217,281"]))
    assert whole["dataset"] == made | {"keep": [217, 281]} and "keep" not in whole["teacher"]
    (workplace / "names.txt").write_text("dog\ncat\n")
    with pytest.raises(UserError, match=r"--classes: folders need names in the order .*; write them out"):
        params_files.contents(new.parser().parse_args([NAME, *how, "--classes", "names.txt"]))


def test_the_inspection_decodes_a_few_images_of_each_class(workplace, monkeypatch):
    torch.save(build_architecture("resnet8", 3, (3, 32, 32)).state_dict(), "flat.pth")
    for name in "abc":
        (workplace / "pets" / name).mkdir(parents=True)
        for row in range(20):
            Image.fromarray(np.full((40, 50, 3), row, np.uint8)).save(f"pets/{name}/{row}.png")
    how = ["--teacher", "resnet8", "--checkpoint", "flat.pth", "--student", "resnet8", "--size", "32", "--data", "pets"]
    files, decoded, image = params_files.contents(new.parser().parse_args([NAME, *how, "--classes", "c,a,b"])), [], readers.image
    monkeypatch.setattr(readers, "image", lambda path, *form: decoded.append(path) or image(path, *form))
    monkeypatch.setattr(new, "INSPECTED", 9)
    for network in new.examine(NAME, files):
        assert (network.description.classes, network.description.image_shape) == (("c", "a", "b"), (3, 32, 32))
    assert len(decoded) == 9


NORM = ["--mean", "0,0,0", "--std", "1,1,1"]
WRONG = {
    "a library without weights": (["--teacher", "torchvision:fcn_resnet50", "--checkpoint", ""], "has no weights of its own"),
    "a student for images": (["--student", "resnet8", *NORM], "resnet8: is for classification, but the task"),
    "a folder that is not there": (["--data", "nowhere"], "--data: nowhere: no such folder; leave --data out"),
    "classes to keep of maps": (["--data", ".", "--keep", "0,1"], "--keep: applies to classifiers only"),
    "a file of names for masks": (["--data", ".", "--classes", "first_nets.py"], "--classes: masks need names or a number"),
    "a test folder without images": (["--test", "params", *NORM], "params: contains no images; put images there, or folders"),
    "too many classes": (["--classes", "a,b,c,d", *NORM], "has 3 classes, but the data set has 4; .* trained on$"),
    "the other task": (["--task", "classification", *NORM], "unet-tiny: is for segmentation, but the task is classification"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_uses_write_nothing(workplace, case):
    given, said = WRONG[case]
    with pytest.raises(UserError, match=said) as error:
        make_new(*given)
    require_remedy(str(error.value))
    assert not list(workplace.glob(f"params/*/{NAME}.yaml"))


FROM_THE_TEACHER = {
    "BatchNorm, small": (("resnet8", (3, 32, 48), 3), "nayer-resnet20-cpu"),
    "BatchNorm, large": (("resnet8", (3, 32, 96), 3), "nayer-128-cpu"),
    "BatchNorm, larger": (("resnet8", (3, 32, 192), 3), ""),
    "no BatchNorm, small": (("lenet5", (1, 28, 28), 3), "zskt-lenet5-cpu"),
    "no BatchNorm, large": (None, ""),
    "maps": (("unet-tiny", (3, 32, 96), 3), "ssd-kd-segmentation-cpu"),
    "maps, no BatchNorm": (None, "dfad-segmentation-plain-cpu"),
}


@pytest.mark.parametrize("case", FROM_THE_TEACHER)
def test_the_preset_for_the_teacher_alone_goes_with_it(workplace, case):
    made, wanted = FROM_THE_TEACHER[case]
    plain = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    teacher = classifier(*made) if made else wrap(plain, (3, 128, 128), 3)
    if case == "maps, no BatchNorm":
        maps = dataclasses.replace(teacher.description, task=SEGMENTATION, image_shape=(3, 24, 36))
        teacher = Classifier(nn.Conv2d(3, 3, 1), maps).eval().requires_grad_(False)
    assert first_try.data_free(teacher) == wanted
    if wanted:
        config = params.load("transfer", wanted)
        student = "unet-tiny" if teacher.description.dense else "resnet8"
        config = dataclasses.replace(config, n=config.batch, student=student)
        method_registry.load(config.method)(config, teacher, [], torch.device("cpu"))  # refuses a teacher that it does not fit


def test_the_seconds_of_a_method_are_those_of_a_round_of_a_tenth_of_its_steps(workplace, monkeypatch):
    """NAYER, ResNet-20: 12 steps for each of 75 batches and 120 of a student in each of 55 rounds; measured are 1 and 12."""
    rounds, clock = [], iter([10.0, 12.6])

    class Timed(method_registry.load("nayer")):
        def round(self, index):
            rounds.append((index, self.config.batches_of(index), self.config.steps, self.config.steps_s, len(self.pool.images)))

    monkeypatch.setattr(method_registry, "load", lambda name: Timed)
    monkeypatch.setattr(first_try.time, "monotonic", lambda: next(clock))
    seconds = first_try.seconds_of(classifier("resnet8", (3, 32, 32), 3), params.load("transfer", "nayer-resnet20-cpu"))
    assert rounds == [(0, 1, 1, 12, 256), (1, 1, 1, 12, 256)]
    assert seconds == pytest.approx(2.6 / 13 * (12 * 75 + 55 * 120))


def test_a_run_from_the_teacher_alone_is_written(workplace, capsys):
    make_new(*NORM)
    transfer, inside = params.load("transfer", NAME), params.load("student", f"{NAME}-inside")
    assert (transfer.method, transfer.student, transfer.rounds) == ("ssd-kd", "unet-tiny", 50)
    assert (inside.arch, inside.init, inside.epochs) == ("unet-tiny", "transfer", 0)
    said = capsys.readouterr().out
    assert f"then, from the teacher alone: {NAME}, the preset ssd-kd-segmentation-cpu with your student; about " in said
    assert f"  snakemake results/{NAME}/{NAME}/{NAME}/none/{NAME}-inside/metrics.json\n" in said
    assert f"params/student/{NAME}.yaml, params/transfer/{NAME}.yaml, params/student/{NAME}-inside.yaml" in said


def test_where_no_method_fits_no_run_from_the_teacher_alone_is_written(workplace, monkeypatch, capsys):
    """And a line says why: the list of methods does not know of a training that fails."""

    def refuse(*how):
        raise UserError("round 2: the loss is nan; lower lr_s\nmore")

    monkeypatch.setattr(first_try, "seconds_of", refuse)
    make_new(*NORM)
    assert sorted(path.parent.name for path in workplace.glob(f"params/*/{NAME}*.yaml")) == ["dataset", "student", "teacher"]
    preset = "the preset ssd-kd-segmentation-cpu does not work with this student"
    assert f"from the teacher alone, {preset}: round 2: the loss is nan; lower lr_s\n" in capsys.readouterr().out


@pytest.mark.parametrize("failing", ["costs", "seconds_of"])
def test_files_are_written_where_memory_runs_out_in_a_timed_step(workplace, monkeypatch, capsys, failing):
    """A teacher of large images could not be taken in at all: its line said to use a smaller batch, which no option sets."""

    def run_out(*how):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99999 bytes")

    monkeypatch.setattr(first_try, failing, run_out)
    make_new(*NORM)
    assert params.load("student", NAME).batch == 16 and params.load("teacher", NAME).arch == "unet-tiny"
    said = capsys.readouterr().out
    first = f"a step on 16 images takes more memory than there is: lower batch in params/student/{NAME}.yaml\n"
    alone = "the preset ssd-kd-segmentation-cpu takes more memory than there is; give it smaller batches (docs/image-size.md)\n"
    assert (first in said, alone in said) == (failing == "costs", failing == "seconds_of")
    assert f"  snakemake results/{NAME}/{NAME}/procedural+" in said


def test_a_name_that_is_too_long_for_all_its_files_is_refused_before_one_is_written(workplace):
    name = "n" * 44
    with pytest.raises(UserError, match=f"student: '{name}-inside' has 51 characters, more than 48"):
        new.run([name, "--teacher", "unet-tiny", "--checkpoint", "maps.pth", "--size", "32x40", "--classes", "a,b,c",
                 "--student", "unet-tiny", *NORM])  # fmt: skip
    assert not list(workplace.glob(f"params/*/{name}*.yaml"))


def test_a_name_that_a_preset_has_is_refused(workplace):
    with pytest.raises(UserError, match=r"params/transfer/fast/fast-5.yaml: already exists; choose another NAME"):
        new.run(["fast-5", "--teacher", "unet-tiny", "--checkpoint", "maps.pth", "--size", "32x40", "--classes", "a,b,c",
                 "--student", "unet-tiny", *NORM])  # fmt: skip
