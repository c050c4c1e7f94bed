"""Parts of a path that are right alone and do not go together, found before anything runs."""

import json
import re
import zlib
from pathlib import Path

import pytest

from dfkd_steps.pipeline import sweep, together
from dfkd_steps.runtime.errors import UserError

FILES = {
    "dataset": {
        "digits-of-together": {"source": "npz", "path": "digits.npz"},
        "again-of-together": {"source": "npz", "path": "digits.npz", "train": 100},
        "other-of-together": {"source": "npz", "path": "other.npz"},
        "pictures-of-together": {"source": "images", "path": "pictures"},
        "maps-of-together": {"source": "drawn-shapes"},
    },
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for group, files in FILES.items():
        for name, content in files.items():
            path = Path("params", group, f"{name}.yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))


def reading(source, method="dataset") -> str:
    """A spec of a transfer set that reads a data set; under a name of its own, as what was read of files is kept."""
    name = f"{method}-{zlib.crc32(source.encode()):x}"
    Path("params/transfer").mkdir(exist_ok=True)
    Path(f"params/transfer/{name}.yaml").write_text(json.dumps({"method": method, "source": source}))
    return name


@pytest.mark.parametrize("method", ["dataset", "mixture"])
@pytest.mark.parametrize(
    ("dataset", "source", "differ"),
    [
        ("digits-of-together+val=0.1", "digits-of-together", "val and seed differ"),
        ("digits-of-together+val=0.1", "again-of-together", "val and seed differ"),  # another name of the same file
        ("digits-of-together+val=0.1", "digits-of-together+seed=1+val=0.1", "seed differ"),
        ("pictures-of-together", "pictures-of-together+seed=1", "seed differ"),  # no folder test/: images are drawn for it
        ("pictures-of-together", "pictures-of-together+test_share=0.1", "test_share differ"),
    ],
)
def test_a_set_of_the_images_that_are_tested_on_is_refused(dataset, source, differ, method):
    transfer = reading(source, method)
    assert together.faults({"dataset": dataset, "transfer": transfer}) == [
        f"transfer '{transfer}' on dataset '{dataset}': the training images of {source} include those that {dataset} is tested "
        f"on ({differ}); write source=own"
    ]


@pytest.mark.parametrize(
    ("dataset", "source"),
    [
        ("digits-of-together+val=0.1", "own"),
        ("digits-of-together+val=0.1", "other-of-together"),
        ("digits-of-together+train=50+val=0.1", "digits-of-together+val=0.1"),
        ("digits-of-together+test=10+train=50", "digits-of-together"),
        ("digits-of-together+seed=1", "digits-of-together"),
        ("pictures-of-together", "pictures-of-together+train=50"),
    ],
)
def test_other_sources_are_not(dataset, source):
    assert together.faults({"dataset": dataset, "transfer": reading(source)}) == []


@pytest.mark.parametrize(
    ("name", "change", "same"),
    [
        *(("digits", change, True) for change in ("train=50", "test=9", "val=0.1", "seed=1", "canaries=9", "sha256=00")),
        ("digits", "canaries=9+shadow=1", True),
        ("pictures", "test_share=0.3", True),
        ("pictures", "size=16", False),
        ("pictures", "fit=squash", False),
    ],
)
def test_files_are_the_same_however_their_images_are_split(name, change, same):
    """A set of all images is one of real data, whatever became of some in the data set of the teacher."""
    assert together.same_files(f"{name}-of-together", f"{name}-of-together+{change}") == same


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_folder_with_test_images_of_its_own_holds_out_the_same_whatever_the_seed(part):
    Path("pictures", part).mkdir(parents=True)
    assert together.faults({"dataset": "pictures-of-together", "transfer": reading("pictures-of-together+seed=1")}) == []


def test_sweeps_and_paths_are_checked():
    source = "digits-of-together"
    transfer = reading(source)
    for group, name, content in (
        ("teacher", "t", {"kind": "train", "arch": "lenet5"}),
        ("balance", "none", {"mode": "none"}),
        ("student", "s", {"arch": "lenet5-half"}),
    ):
        Path("params", group).mkdir(exist_ok=True)
        Path("params", group, f"{name}.yaml").write_text(json.dumps(content))
    held = f"{source}+val=0.1"
    experiment = {
        "dataset": [held], "teacher": ["t"], "transfer": [transfer], "balance": ["none"], "student": ["s"], "source": [source],
    }  # fmt: skip
    with pytest.raises(UserError, match=re.escape(f"include those that {held} is tested on")):
        sweep.check(experiment, "sweep")
    with pytest.raises(UserError, match=re.escape(f"include those that {held} is tested on")):
        sweep.check_paths([f"results/{held}/t/{transfer}/none/s/metrics.json"])


@pytest.mark.parametrize(
    ("mode", "student", "why"),
    [
        ("weight", {}, "weights are used only with sampling: given"),
        ("weight", {"sampling": "priority"}, "weights are used only with sampling: given"),
        ("weight", {"sampling": "given"}, ""),
        ("equal", {"fresh": True}, "every image is a new one (fresh: true)"),
        ("equal", {"fresh": True, "select": "agreement"}, ""),  # balance decides which samples are held out
        ("equal", {"epochs": 0, "init": "transfer"}, "the student is taken as the method left it (epochs: 0)"),
        ("equal", {"epochs": 1, "init": "transfer"}, ""),
        ("equal", {}, ""),
        ("none", {"epochs": 0, "init": "transfer"}, ""),
        ("none", {"fresh": True}, ""),
    ],
)
def test_a_balance_that_would_change_nothing_is_refused(mode, student, why):
    """Else a row says balanced that is the row without balance, to the bit."""
    number = f"{zlib.crc32(repr((mode, student)).encode()):x}"
    content = {"transfer": {"method": "fast"}, "balance": {"mode": mode}, "student": {"arch": "lenet5-half", **student}}
    for group, fields in content.items():
        Path("params", group).mkdir(exist_ok=True)
        Path(f"params/{group}/b{number}.yaml").write_text(json.dumps(fields))
    faults = together.faults(dict.fromkeys(content, f"b{number}") | {"dataset": "digits-of-together"})
    assert len(faults) == bool(why) and all(f"balance 'b{number}' would change nothing, because {why}" in line for line in faults)


def test_all_outputs_of_a_teacher_that_is_not_cut_are_refused():
    Path("params/student").mkdir(exist_ok=True)
    Path("params/student/whole-of-together.yaml").write_text(json.dumps({"arch": "lenet5-half", "outputs": "all"}))
    Path("params/dataset/cut-of-together.yaml").write_text(json.dumps({"source": "card", "height": 8, "keep": [3, 1]}))
    student = {"student": "whole-of-together"}
    assert together.faults({"dataset": "cut-of-together"} | student) == []
    assert together.faults({"dataset": "digits-of-together"} | student) == [
        "student 'whole-of-together' on dataset 'digits-of-together': outputs: all needs a teacher that is cut to some of its "
        "classes, but the data set has no keep; set outputs: kept"
    ]
    for group, content in (
        ("teacher", {"kind": "train", "arch": "lenet5"}), ("transfer", {"method": "noise"}), ("balance", {"mode": "none"}),
    ):  # fmt: skip
        Path("params", group).mkdir(exist_ok=True)
        Path("params", group, "of-together.yaml").write_text(json.dumps(content))
    for name, teacher, refused in (
        ("trained", {"kind": "train", "arch": "lenet5"}, True),
        ("weighted", {"kind": "library", "library": "timm", "name": "x"}, False),
        ("random", {"kind": "library", "library": "timm", "name": "x", "weights": ""}, True),
        ("imported", {"kind": "import", "arch": "lenet5", "checkpoint": "a.pth"}, False),
    ):  # fmt: skip
        Path("params/teacher").mkdir(exist_ok=True)
        Path(f"params/teacher/{name}-together.yaml").write_text(json.dumps(teacher))
        lines = together.faults({"dataset": "cut-of-together", "teacher": f"{name}-together"} | student)
        assert len(lines) == refused and (not refused or "has the classes of the data set alone; set outputs: kept" in lines[0])
    experiment = {group: ["of-together"] for group in ("teacher", "transfer", "balance")} | {"dataset": ["digits-of-together"]}
    with pytest.raises(UserError, match="the data set has no keep; set outputs: kept"):
        sweep.check(experiment | {"student": ["whole-of-together"]}, "sweep")


def test_a_wrong_spec_names_the_file_of_the_sweep():
    """A command may read several."""
    experiment = {"dataset": ["digits-of-together+train=x"], "source": ["other-of-together+train=y"]}
    experiment |= {group: ["nothing-of-together"] for group in ("teacher", "transfer", "balance", "student")}
    with pytest.raises(UserError) as caught:
        sweep.check(experiment, "params/sweeps/mine.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 6 and all(line.startswith("params/sweeps/mine.yaml: ") for line in lines), lines


NETWORKS = {
    "a classifier as the student of maps": ("maps", {"student": {"arch": "resnet8"}}, "student", "resnet8"),
    "a library's": ("maps", {"student": {"arch": "torchvision.resnet18"}}, "student", "torchvision.resnet18"),
    "a teacher": ("maps", {"teacher": {"kind": "train", "arch": "lenet5"}}, "teacher", "lenet5"),
    "a library's teacher": ("maps", {"teacher": {"kind": "library", "name": "resnet18"}}, "teacher", "torchvision.resnet18"),
    "an online student": ("maps", {"transfer": {"method": "ssd-kd", "student": "resnet8"}}, "transfer", "resnet8"),
    "maps of images with a label": ("digits", {"student": {"arch": "unet-tiny"}}, "student", "unet-tiny"),
    "of torchvision": ("digits", {"student": {"arch": "torchvision.fcn_resnet50"}}, "student", "torchvision.fcn_resnet50"),
    "of smp": ("digits", {"student": {"arch": "smp.unet.resnet18"}}, "student", "smp.unet.resnet18"),
    "a factory, which has to be built": ("maps", {"student": {"arch": "factory.nets.maps"}}, "", ""),
    "an import of a factory": ("maps", {"teacher": {"kind": "import", "checkpoint": "a.pth", "factory": "n:f"}}, "", ""),
    "an online student of maps": ("maps", {"transfer": {"method": "ssd-kd", "student": "unet-tiny"}}, "", ""),
    "a method that is refused itself": ("maps", {"transfer": {"method": "zskt", "student": "resnet8"}}, "", ""),
    "a classifier for labels": ("digits", {"student": {"arch": "resnet8"}, "transfer": {"method": "fast"}}, "", ""),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_a_network_for_the_other_task_is_refused_before_anything_runs(case):
    """Else a student is refused after the hours of synthesis."""
    dataset, content, group, network = NETWORKS[case]
    name = f"n{zlib.crc32(case.encode()):x}"
    for kind, fields in content.items():
        Path("params", kind).mkdir(exist_ok=True)
        Path(f"params/{kind}/{name}.yaml").write_text(json.dumps(fields))
    faults = together.faults(dict.fromkeys(content, name) | {"dataset": f"{dataset}-of-together"})
    assert len(faults) == bool(network)
    if network:
        task, other = ("segmentation", "classification") if dataset == "maps" else ("classification", "segmentation")
        start = f"{group} '{name}' on dataset '{dataset}-of-together': the network {network} is for {other}, but"
        assert faults[0].startswith(f"{start} the data set is for {task}; use one of ")
        assert ("unet-tiny" in faults[0].split(";")[1]) == (dataset == "maps")


@pytest.mark.parametrize(
    ("student", "given", "refused"),
    [
        ({"batch": 31}, "current", True),
        ({"batch": 32}, "current", False),
        ({"batch": 31}, "running", False),
        ({"batch": 31, "augment": "none"}, "current", False),  # the teacher answered when the set was made
        ({"batch": 31, "augment": "none", "mix": "cutmix"}, "current", True),
    ],
)
def test_a_batch_too_small_for_its_statistics_is_refused(student, given, refused):
    """Of a set itself such a batch is refused too: at 8 images a fifth of the predictions were others than at 128."""
    name = f"c{zlib.crc32(repr((student, given)).encode()):x}"
    content = {
        "transfer": {"method": "noise", "statistics": given},
        "balance": {"mode": "none"},
        "student": {"arch": "resnet8", **student},
    }
    for group, fields in content.items():
        Path("params", group).mkdir(exist_ok=True)
        Path(f"params/{group}/{name}.yaml").write_text(json.dumps(fields))
    faults = together.faults(dict.fromkeys(content, name))
    assert ["batch: 31 images together are too few for batch statistics" in line for line in faults] == [True] * refused


@pytest.mark.parametrize("group", ["transfer", "student"])
def test_logits_of_pixels_cannot_be_kept(group):
    content = {"transfer": {"method": "ssd-kd", "student": "unet-tiny"}, "student": {"arch": "unet-tiny", "augment": "flip-crop"}}
    Path("params", group).mkdir(exist_ok=True)
    Path(f"params/{group}/kept.yaml").write_text(json.dumps(content[group] | {"views_kept": 2}))
    assert together.faults({"dataset": "maps-of-together", group: "kept"}) == [
        f"{group} 'kept' on dataset 'maps-of-together': views_kept: logits of single pixels are not stored; set views_kept: 0"
    ]
    assert not any("views_kept" in line for line in together.faults({"dataset": "digits-of-together", group: "kept"}))
