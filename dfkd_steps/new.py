"""Command ``dfkd new``: write the params files for a teacher without data, after inspecting the teacher.

dfkd new mine --teacher timm:resnet18 --checkpoint mine.pth --classes cat,dog --size 224x224 --student timm:mobilenetv3_small_050
"""

import argparse
import dataclasses
import importlib
import os
import shlex
import tempfile
from pathlib import Path
from types import SimpleNamespace

import yaml

from .models import names, tasks
from .pipeline import estimate, params, spec
from .pipeline.job import run_guarded
from .runtime import progress
from .runtime.errors import UserError
from .schemas import groups

NUMBERS = {"keep": int, "mean": float, "std": float}  # options that are lists of these
INSPECTED = 500  # images of --data that are decoded, or two per class: a teacher depends on them by mean and std at most
TITLES = {"dataset": "Card of a task without images", "teacher": "Teacher", "student": "Student"}
NUMBER = {tasks.CLASSIFICATION: 20_000, tasks.SEGMENTATION: 2_000}  # images to try first; in maps each pixel is a prediction
KIND = {1: "strokes", 3: "scenes"}  # of classification; maps have several things in an image, as scenes do
# What did best in a few hundred steps on scenes for a teacher of ImageNet, by agreement on held-out ones; figures are in
# docs/your-own-teacher.md.
STUDENT = {"batch": 64, "schedule": "onecycle", "tau": 4.0, "augment": "none", "select": "agreement"}
SOAP, ADAMW = {"optimizer": "soap", "lr": 0.01, "weight_decay": 0.0}, {"optimizer": "adamw", "lr": 2e-3}
LARGEST = 1024  # side of a weight: the eigenvectors of larger ones take SOAP longer than the steps that it saves
# Of maps, as params/student/unet-small.yaml: 1,800 steps, whatever the size of the set.
SEGMENTATION_STUDENT = {"epochs": 60, "batch": 16, "lr": 3e-3, "tau": 1.0, "augment": "flip-crop", "steps_per_epoch": 30}


def parser() -> argparse.ArgumentParser:
    """The command line of ``dfkd new``."""
    text = (
        "Inspect a teacher, write params/dataset/NAME.yaml, params/teacher/NAME.yaml and params/student/NAME.yaml for a student "
        "distilled from it without data, list the methods that fit, and estimate the cost of the first one on this machine."
    )
    top = argparse.ArgumentParser(prog="dfkd new", description=text)
    top.add_argument("name", metavar="NAME", help="name of the three files")
    text = "FILE.onnx, torchvision:NAME, timm:NAME, smp:NAME.ENCODER, MODULE:FUNCTION or one of `dfkd list models`"
    top.add_argument("--teacher", required=True, help=text)
    top.add_argument("--checkpoint", default="", help="its weights (.pth, .pt, .safetensors; default: its library's)")
    text = "parts of the names of its weights that the network names otherwise (fc=linear,downsample=shortcut)"
    top.add_argument("--rename", default="", metavar="OLD=NEW,...", help=text)
    top.add_argument(
        "--student",
        required=True,
        help="torchvision:NAME, timm:NAME, MODULE:FUNCTION or one of `dfkd list models` (a unet for segmentation)",
    )
    text = "task of the teacher, if it cannot be detected (as for an ONNX file without the shape of its output)"
    top.add_argument("--task", default="", choices=tasks.TASKS, help=text)
    top.add_argument("--classes", default="", help="their number, their names (cat,dog) or a file with one name per line")
    top.add_argument("--keep", default="", help="the teacher's classes to keep, by number from 0 (0,217,482)")
    top.add_argument("--size", default="", help="HEIGHTxWIDTH of an image, pixels (default: that of the teacher's library)")
    top.add_argument("--channels", type=int, default=3, choices=(1, 3), help="1 = grey, 3 = colour")
    top.add_argument("--mean", default="", help="per channel, for images in [0,1] (0.5,0.5,0.5)")
    top.add_argument("--std", default="", help="per channel")
    top.add_argument("--test", default="", metavar="DIR", help="test images, read only by the evaluation at the end")
    text = "images of the task, if there are any, instead of a card: one folder per class, or images/ and masks/"
    top.add_argument("--data", default="", metavar="DIR", help=text)
    top.add_argument(
        "--void", type=int, default=tasks.VOID, metavar="N", help="label of void pixels in masks (255 is always void)"
    )
    return top


def network(given: str) -> str:
    """A network as a person names it, by the name that it has in a config: torchvision:resnet18 -> torchvision.resnet18."""
    library, _, rest = given.partition(":")
    if rest and library not in (*names.LIBRARIES, names.SMP):
        return names.spelled(names.FACTORY, given)
    return given.replace(":", ".")


def contents(given) -> dict[str, dict]:
    """Group -> what its file is to hold."""
    library, name = names.split(network(given.teacher)) if not names.is_onnx(given.teacher) else ("onnx", given.teacher)
    size = _size(given.size, library, name)
    card = {"source": "card", **_classes(given.classes, library, name), **size}
    numbers = {key: _numbers(key, text, kind) for key, kind in NUMBERS.items() if (text := getattr(given, key))}
    if given.channels != 3:
        card["channels"] = given.channels
    teacher = _teacher(given, library, name)
    task = given.task or _task(given, library, name, card)
    if given.data:
        if "keep" in numbers and task == tasks.SEGMENTATION:
            raise UserError("--keep: applies to classifiers only, but this teacher predicts a map; leave it out")
        card = _images(given, task, card) | ({"keep": numbers.pop("keep")} if "keep" in numbers else {})
        teacher |= numbers
    else:
        card |= numbers | ({"task": task} if task == tasks.SEGMENTATION else {})
        known = _data_config(library, name)
        if known and known.names and not given.classes and max(card.get("keep", [0])) < len(known.names):
            card.pop("classes", None)
            card["names"] = [known.names[number] for number in card.get("keep", range(len(known.names)))]
    student = SEGMENTATION_STUDENT if task == tasks.SEGMENTATION else STUDENT
    return {"dataset": card, "teacher": teacher, "student": {"arch": network(given.student), **student}}


def _task(given, library, name, card) -> str:
    """The task, by what the teacher gives."""
    from .reporting import first_try

    shape = (given.channels, card["height"], card.get("width", card["height"]))
    classes = card.get("classes") or len(card.get("names", ())) or 2  # nothing depends on their number here
    return first_try.task_of(library, name, classes, shape) or tasks.CLASSIFICATION


def _teacher(given, library, name) -> dict:
    if given.rename and (library == "onnx" or not given.checkpoint):
        raise UserError("--rename: applies to the weights in a --checkpoint only; leave it out")
    if library == "onnx":
        return {"kind": "import", "checkpoint": given.teacher}
    if given.checkpoint:
        architecture = {"factory": name} if library == names.FACTORY else {"arch": network(given.teacher)}
        rename = {"rename": given.rename.split(",")} if given.rename else {}
        return {"kind": "import", "checkpoint": given.checkpoint, **architecture, **rename}
    if library in names.LIBRARIES and name not in names.for_segmentation(library):
        return {"kind": "library", "library": library, "name": name}
    raise UserError(f"--teacher: {given.teacher} has no weights of its own; give --checkpoint FILE")


def _images(given, task, card) -> dict:
    """A data set of the images in a folder, with the classes and the size of a card."""
    if not Path(given.data).is_dir():
        raise UserError(f"--data: {given.data}: no such folder; leave --data out if there are no images")
    if task == tasks.SEGMENTATION:
        if "names_file" in card:
            raise UserError("--classes: masks need names or a number; write the names out (road,car), or leave out --data")
        void = {"void": given.void} if given.void != tasks.VOID else {}
        return {**card, "source": "masks", "path": given.data, **void}
    if "names_file" in card:
        raise UserError("--classes: folders need names in the order of the teacher's outputs; write them out (cat,dog)")
    kept = {key: card[key] for key in ("names", "width", "channels") if key in card}
    return {"source": "images", "path": given.data, "size": card["height"], **kept}


def _data_config(library, name):
    """What a library says of a teacher; None of another."""
    known = library in names.LIBRARIES and name.partition(".")[0] in names.in_library(library)
    return importlib.import_module("dfkd_steps.models.library").data_config(library, name) if known else None


def _classes(text, library, name) -> dict:
    if text.isdecimal():
        return {"classes": int(text)}
    if os.path.isfile(text):  # Path.is_file raises for a list of names that is longer than a name of a file may be
        return {"names_file": text}
    if text:
        return {"names": [part.strip() for part in text.split(",")]}
    known = _data_config(library, name)
    return {"classes": known.classes} if known and not known.names else {}


def _size(text, library, name) -> dict:
    if not text:
        known = _data_config(library, name)
        if not known:
            raise UserError("--size: the image size is not known; give --size HEIGHTxWIDTH")
        height, width = known.size
    else:
        height, _, width = text.lower().partition("x")
        if not height.isdecimal() or not (width or height).isdecimal():
            raise UserError(f"--size: {text!r} is not a size; write it like 224x224 or 224")
        height, width = int(height), int(width or height)
    return {"height": height} | ({"width": width} if width != height else {})


def _numbers(key, text, kind) -> list:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--{key}: {text!r} is not a list of numbers; write it like {'0,217' if kind is int else '0.5,0.5,0.5'}"
        ) from None


def _takes(preset: str, described) -> str:
    """How much a method makes, and what it needs for that, by its preset."""
    takes = estimate.of_config("transfer", params.load("transfer", preset), estimate.of_network(described))
    steps = f"{takes.steps:,} steps, " if takes.steps else ""
    return f"{takes.samples:,} images, {steps}at least {estimate.size(takes.memory)} of memory"


def write(name: str, files: dict[str, dict], folder: Path):
    """One YAML file per group below ``folder``; none is overwritten."""
    spec.parse("dataset", name)
    paths = {group: folder / group / f"{name}.yaml" for group in files}
    if there := [path for path in paths.values() if path.exists()]:
        raise UserError(f"{there[0]}: already exists; choose another NAME, or remove it")
    for group, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        title = "Data set" if group == "dataset" and "path" in files[group] else TITLES[group]
        lines = [yaml.safe_dump({key: value}, default_flow_style=None, width=1 << 16) for key, value in files[group].items()]
        lines = [line.strip().removeprefix("{").removesuffix("}") for line in lines]
        path.write_text("\n".join([f"# {title}, by `dfkd new`.", *lines, ""]))


def examine(name: str, files: dict[str, dict]):
    """The teacher as it will be imported, the student as it will begin, and a data set; from files that are thrown away."""
    from . import dataset as dataset_step
    from .datasets import readers
    from .models import pretrained
    from .models.classifier import Classifier, new_classifier
    from .storage import dataset_file

    with tempfile.TemporaryDirectory() as folder:
        write(name, files, Path(folder))
        config = {group: params.load(group, name, Path(folder)) for group in files}
        source, path = readers.read(config["dataset"], most=INSPECTED), Path(folder, "dataset.h5")
        dataset_file.write(
            path, "", {}, source.classes, dataset_step.prepare(config["dataset"], source), source.keep, source.card
        )
        dataset = dataclasses.replace(dataset_file.open_dataset(path), path=Path(f"params/dataset/{name}.yaml"))
        read = pretrained.import_library if files["teacher"]["kind"] == "library" else pretrained.import_checkpoint
        teacher = Classifier(*read(config["teacher"], dataset)).eval().requires_grad_(False)
        return teacher, new_classifier(config["student"].arch, teacher.description, 0)


def settings(student) -> dict:
    """What the student's file says of its training beside STUDENT: the optimiser that goes with its size."""
    return SOAP if max(side for weight in student.parameters() for side in weight.shape) <= LARGEST else ADAMW


def run(argv=None):
    """dfkd new"""
    given = parser().parse_args(argv)
    files = contents(given)
    for group in files:
        if (path := params.PARAMS / group / f"{given.name}.yaml").exists():
            raise UserError(f"{path}: already exists; choose another NAME, or remove it")
    if given.test and not Path(given.test).is_dir():
        raise UserError(f"--test: {given.test}: no such folder; leave --test out until there are test images")
    from .models import look
    from .reporting import first_try

    teacher, student = examine(given.name, files)
    described = teacher.description
    if not described.dense:
        files["student"] |= settings(student)
    test_images = _test_images(given, described) if given.test else []
    print(f"\nteacher: {described.spelled}, {described.num_classes} classes, images {'x'.join(map(str, described.image_shape))}")
    if described.dense:
        print("  predicts a map of classes for each image: the task is segmentation")
    for line in look.look(teacher):
        print(f"  {line}")
    sizes = [sum(value.numel() for value in net.parameters()) for net in (teacher, student)]
    print(f"student: {student.description.spelled}, {sizes[1]:,} parameters (the teacher has {sizes[0]:,})")
    kind, number = "scenes" if described.dense else KIND[described.image_shape[0]], NUMBER[described.task]
    # Before the methods, some of which hold gigabytes: what this process held at most is said of the first one to try.
    cost = first_try.costs(teacher, student, groups.Student(**files["student"]), kind, number)
    print("\nmethods:")
    for method, preset, why in first_try.fitting(teacher, files["student"]["arch"]):
        print(f"  {method:<15} {f'no: {why}' if why else f'fits, preset {preset} ({_takes(preset, described)})'}")
    files["student"]["precision"] = precision = min(("fp32", "bf16"), key=cost.get)
    transfer = f"procedural+batch={first_try.DRAWN_AT_ONCE}+kind={kind}+n={number}"
    drawing, training = (progress.duration(cost[part]) for part in ("drawing", precision))
    print(
        f"\nto try first: {transfer}, procedural images (prior-based); drawing them takes about {drawing}, training "
        f"about {training} in {precision}, on one core of this machine, with {max(cost['disk'] / 1e9, 0.1):.1f} GB on disk and "
        f"{cost['memory'] / 1e9 + 0.3:.1f} GB of memory"
    )
    write(given.name, files, params.PARAMS)
    place, real = (
        f"results/{given.name}/{given.name}/{of}/none/{given.name}"
        for of in (transfer, f"dataset+batch={first_try.DRAWN_AT_ONCE}+source={params.OWN_DATASET}")
    )
    print(f"wrote {', '.join(f'params/{group}/{given.name}.yaml' for group in files)}\n\n  snakemake {place}/metrics.json")
    if given.data:
        print(f"  snakemake {real}/metrics.json    # for comparison: trained on the images of {spec.display(given.data)}")
    if given.test:
        void = f" --void {given.void}" if described.dense and given.void != tasks.VOID else ""
        print(f"  dfkd evaluate {place}/student.safetensors --images {shlex.quote(given.test)}{void}")
        print(f"\nonly the last command reads the {len(test_images)} images of {given.test}")
    if files["student"].get("select") == "agreement":
        print(
            f"\nits progress: column agreement of {place}/history.csv, the share of held-out images on which student and "
            "teacher predict the same class; this is not an accuracy"
        )


def _test_images(given, described) -> list:
    """The test images, none of them opened; their folders are compared with the classes now, not after the work."""
    from .reporting import other_images, other_maps

    if described.dense:
        return other_maps.listed(Path(given.test))
    return other_images.listed(Path(given.test), SimpleNamespace(**vars(described)))


def main(argv=None):
    """Entry of the command: bad input is one line and exit code 2."""
    progress.say("dfkd new: inspecting the teacher ...")
    run_guarded("new", lambda: run(argv), uses_gpu=False)


if __name__ == "__main__":
    main()
