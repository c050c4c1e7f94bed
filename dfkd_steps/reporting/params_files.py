"""The params files of ``dfkd new``: what they hold, by the options of the command."""

import importlib
import os
from pathlib import Path

import yaml

from ..models import names, registry, tasks
from ..pipeline import spec
from ..runtime.errors import UserError, suggest

NUMBERS = {"keep": int, "mean": float, "std": float}  # options that are lists of these
TITLES = {
    "dataset": "Card of a task without images", "teacher": "Teacher", "transfer": "Transfer set from the teacher alone",
    "student": "Student",
}  # fmt: skip
INSIDE = {"epochs": 0, "init": "transfer"}  # of a student that its method trains
# What did best in a few hundred steps on scenes for a teacher of ImageNet, by agreement on held-out ones; figures are in
# docs/your-own-teacher.md.
STUDENT = {"batch": 64, "schedule": "onecycle", "tau": 4.0, "augment": "none", "select": "agreement"}
SOAP, ADAMW = {"optimizer": "soap", "lr": 0.01, "weight_decay": 0.0}, {"optimizer": "adamw", "lr": 2e-3}
LARGEST = 1024  # side of a weight: the eigenvectors of larger ones take SOAP longer than the steps that it saves
# Of maps, as params/student/unet-small.yaml: 1,800 steps, whatever the size of the set.
SEGMENTATION_STUDENT = {"epochs": 60, "batch": 16, "lr": 3e-3, "tau": 1.0, "augment": "flip-crop", "steps_per_epoch": 30}


def network(given: str) -> str:
    """A network as a person names it, by the name that it has in a config: torchvision:resnet18 -> torchvision.resnet18."""
    library, _, rest = given.partition(":")
    if rest and library not in (*names.LIBRARIES, names.SMP):
        return names.spelled(names.FACTORY, given)
    return given.replace(":", ".")


def contents(given) -> dict[str, dict]:
    """Group -> what its file is to hold; raises UserError for options that do not go together.

    given: the options of ``dfkd new``.
    """
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
    from . import first_try

    shape = (given.channels, card["height"], card.get("width", card["height"]))
    classes = card.get("classes") or len(card.get("names", ())) or 2  # nothing depends on their number here
    return first_try.task_of(library, name, classes, shape) or tasks.CLASSIFICATION


def _teacher(given, library, name) -> dict:
    if given.rename and (library == "onnx" or not given.checkpoint):
        raise UserError("--rename: applies to the weights in a --checkpoint only; leave it out")
    if library == "onnx":
        if given.checkpoint:
            raise UserError("--checkpoint: an ONNX file holds its weights; leave it out")
        return {"kind": "import", "checkpoint": given.teacher}
    if library == "arch" and name not in registry.names():
        raise UserError(f"--teacher: {given.teacher!r} is no network; {suggest(name, registry.names())}; others are written "
                        "torchvision:NAME, timm:NAME or MODULE:FUNCTION")  # fmt: skip
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
        classes = [part.strip() for part in text.split(",")]
        if len(classes) < 2 or not all(classes):
            raise UserError(
                f"--classes: {text!r} is neither a number, nor a file that is there, nor two names or more; write them like "
                "cat,dog"
            )
        return {"names": classes}
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


def data_free(name: str, values: dict, student: str) -> dict[tuple[str, str], dict]:
    """The files of a run from the teacher alone: (group, name) -> what a file is to hold. values: of a preset, all, since it may
    have a base itself; the student is the user's."""
    return {
        ("transfer", name): {**values, "student": student},
        ("student", f"{name}-inside"): {"arch": student, **INSIDE},
    }


def new_paths(files, folder: Path) -> dict[tuple[str, str], Path]:
    """(Group, name) of each of the ``files`` -> its path below ``folder``; raises UserError if one is no name, or is there, in a
    folder of its group too."""
    for group, name in files:
        spec.parse(group, name)
    paths = {(group, name): folder / group / f"{name}.yaml" for group, name in files}
    if there := [file for path in paths.values() for file in path.parent.rglob(path.name)]:
        raise UserError(f"{there[0]}: already exists; choose another NAME, or remove it")
    return paths


def write(files: dict[tuple[str, str], dict], folder: Path):
    """A YAML file for each (group, name) below ``folder``; none is overwritten."""
    for (group, name), path in new_paths(files, folder).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        content = files[group, name]
        title = "Data set" if group == "dataset" and "path" in content else TITLES[group]
        title = f"{title}, trained with its images" if content.get("init") == "transfer" else title
        lines = [yaml.safe_dump({key: value}, default_flow_style=None, width=1 << 16) for key, value in content.items()]
        lines = [line.strip().removeprefix("{").removesuffix("}") for line in lines]
        path.write_text("\n".join([f"# {title}, by `dfkd new`.", *lines, ""]))


def settings(student) -> dict:
    """What the student's file says of its training beside STUDENT: the optimiser that goes with its size."""
    return SOAP if max(side for weight in student.parameters() for side in weight.shape) <= LARGEST else ADAMW
