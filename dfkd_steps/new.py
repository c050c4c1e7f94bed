"""Command ``dfkd new``: the params files for a teacher and nothing else, after a look at the teacher.

dfkd new mine --teacher timm:resnet18 --checkpoint mine.pth --classes cat,dog --size 224x224 --student timm:mobilenetv3_small_050
"""

import argparse
import dataclasses
import importlib
import resource
import shlex
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import yaml

from .models import names
from .pipeline import params, spec
from .pipeline.job import run_guarded
from .runtime import progress
from .runtime.errors import UserError
from .schemas import groups

NUMBER, DRAWN_AT_ONCE = 20_000, 50
TIMED_STEPS, TIMED_SECONDS = 10, 5  # of training, whichever comes first: SOAP finds its eigenvectors in each tenth step
KIND = {1: "strokes", 3: "scenes"}
# What did best in a few hundred steps on scenes for a teacher of ImageNet, by agreement on held-out ones; figures are in
# docs/your-own-teacher.md.
STUDENT = {"batch": 64, "schedule": "onecycle", "tau": 4.0, "augment": "none", "select": "agreement"}
SOAP, ADAMW = {"optimizer": "soap", "lr": 0.01, "weight_decay": 0.0}, {"optimizer": "adamw", "lr": 2e-3}
LARGEST = 512  # side of a weight: the eigenvectors of larger ones take SOAP longer than the steps that it saves


def parser() -> argparse.ArgumentParser:
    """The command line of ``dfkd new``."""
    told = (
        "Look at a teacher, write params/dataset/NAME.yaml, params/teacher/NAME.yaml and params/student/NAME.yaml for a student "
        "from it and no data, say which methods fit it, and what the first one costs on this machine."
    )
    made = argparse.ArgumentParser(prog="dfkd new", description=told)
    made.add_argument("name", metavar="NAME", help="of the three files")
    made.add_argument("--teacher", required=True, help="FILE.onnx, torchvision:NAME, timm:NAME, MODULE:FUNCTION or one of ours")
    made.add_argument(
        "--checkpoint", default="", help="its weights (.pth, .pt, .safetensors); of a library without it the library's"
    )
    made.add_argument(
        "--student", required=True, help="torchvision:NAME, timm:NAME, MODULE:FUNCTION or one of `dfkd list models`"
    )
    made.add_argument("--classes", default="", help="their number, their names (cat,dog) or a file with a name in each line")
    made.add_argument("--keep", default="", help="the teacher's classes that count, by number from 0 (0,217,482)")
    made.add_argument("--size", default="", help="HEIGHTxWIDTH of an image, pixels (default: as the teacher's library says)")
    made.add_argument("--channels", type=int, default=3, choices=(1, 3), help="1 = grey, 3 = colour")
    made.add_argument("--mean", default="", help="per channel, of images in [0,1] (0.5,0.5,0.5)")
    made.add_argument("--std", default="", help="per channel")
    made.add_argument("--test", default="", metavar="DIR", help="test images, read by nothing but a measurement at the end")
    return made


def network(given: str) -> str:
    """A network as a person names it, by the name that it has in a config: torchvision:resnet18 -> torchvision.resnet18."""
    library, _, rest = given.partition(":")
    if rest and library not in names.LIBRARIES:
        return names.spelled(names.FACTORY, given)
    return given.replace(":", ".")


def contents(given) -> dict[str, dict]:
    """Group -> what its file is to hold."""
    library, name = names.split(network(given.teacher)) if not names.is_onnx(given.teacher) else ("onnx", given.teacher)
    if library == "onnx":
        teacher = {"kind": "import", "checkpoint": given.teacher}
    elif library == names.FACTORY or given.checkpoint:
        if not given.checkpoint:
            raise UserError(f"--teacher: {given.teacher} has no weights of its own; give --checkpoint FILE")
        teacher = {"kind": "import", "checkpoint": given.checkpoint}
        teacher |= {"factory": name} if library == names.FACTORY else {"arch": network(given.teacher)}
    elif library in names.LIBRARIES:
        teacher = {"kind": "library", "library": library, "name": name}
    else:
        raise UserError(f"--teacher: {given.teacher} has no weights of its own; give --checkpoint FILE")
    card = {"source": "card", **_classes(given.classes, library, name), **_size(given.size, library, name)}
    for key, kind in (("keep", int), ("mean", float), ("std", float)):
        if text := getattr(given, key):
            card[key] = _numbers(key, text, kind)
    if given.channels != 3:
        card["channels"] = given.channels
    known = _told(library, name)
    if known and known.names and not given.classes and max(card.get("keep", [0])) < len(known.names):
        card.pop("classes", None)
        card["names"] = [known.names[number] for number in card.get("keep", range(len(known.names)))]
    return {"dataset": card, "teacher": teacher, "student": {"arch": network(given.student), **STUDENT}}


def _told(library, name):
    """What a library says of a teacher; None of another."""
    known = library in names.LIBRARIES and name.partition(".")[0] in names.in_library(library)
    return importlib.import_module("dfkd_steps.models.library").told(library, name) if known else None


def _classes(text, library, name) -> dict:
    if text.isdecimal():
        return {"classes": int(text)}
    if Path(text).is_file():
        return {"names_file": text}
    if text:
        return {"names": [one.strip() for one in text.split(",")]}
    known = _told(library, name)
    return {"classes": known.classes} if known and not known.names else {}


def _size(text, library, name) -> dict:
    if not text:
        known = _told(library, name)
        if not known:
            raise UserError("--size: nothing says how large images are; give --size HEIGHTxWIDTH")
        height, width = known.size
    else:
        height, _, width = text.lower().partition("x")
        if not height.isdecimal() or not (width or height).isdecimal():
            raise UserError(f"--size: {text!r} is no size; write it like 224x224 or 224")
        height, width = int(height), int(width or height)
    return {"height": height} | ({"width": width} if width != height else {})


def _numbers(key, text, kind) -> list:
    try:
        return [kind(one) for one in text.split(",")]
    except ValueError:
        raise UserError(
            f"--{key}: {text!r} is no list of numbers; write it like {'0,217' if kind is int else '0.5,0.5,0.5'}"
        ) from None


def write(name: str, made: dict[str, dict], folder: Path):
    """One YAML file a group below ``folder``; none is overwritten."""
    spec.parse("dataset", name)
    paths = {group: folder / group / f"{name}.yaml" for group in made}
    if there := [path for path in paths.values() if path.exists()]:
        raise UserError(f"{there[0]}: is there already; choose another NAME, or remove it")
    for group, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        title = {"dataset": "Card of a task without images", "teacher": "Teacher", "student": "Student"}[group]
        lines = [yaml.safe_dump({key: value}, default_flow_style=None, width=1 << 16) for key, value in made[group].items()]
        lines = [line.strip().removeprefix("{").removesuffix("}") for line in lines]
        path.write_text("\n".join([f"# {title}, by `dfkd new`.", *lines, ""]))


def examine(name: str, made: dict[str, dict]):
    """The teacher as it will be imported, the student as it will begin, and a data set; from files that are thrown away."""
    from . import dataset as dataset_step
    from .datasets import readers
    from .models import pretrained
    from .models.classifier import Classifier, new_classifier
    from .storage import dataset_file

    with tempfile.TemporaryDirectory() as folder:
        write(name, made, Path(folder))
        config = {group: params.load(group, name, Path(folder)) for group in made}
        source, path = readers.read(config["dataset"]), Path(folder, "dataset.h5")
        dataset_file.write(path, "", {}, source.classes, dataset_step.prepare(config["dataset"], source), source.card)
        dataset = dataclasses.replace(dataset_file.open_dataset(path), path=Path(f"params/dataset/{name}.yaml"))
        read = pretrained.import_library if made["teacher"]["kind"] == "library" else pretrained.import_checkpoint
        teacher = Classifier(*read(config["teacher"], dataset)).eval().requires_grad_(False)
        return teacher, new_classifier(config["student"].arch, teacher.description, 0)


def fitting(teacher, student: str) -> list[tuple[str, str]]:
    """Each data-free method with why it does not go with this teacher, '' where it does: as it says itself when it begins."""
    import torch

    from .methods import registry

    found = []
    for method in sorted(registry.REGISTRY):
        files = [name for name in params.names("transfer") if params.kind_of("transfer", name) == method]
        if not files or method in ("dataset", "mixture"):
            continue
        config = params.load("transfer", min(files, key=len))
        if hasattr(config, "student"):
            config = dataclasses.replace(config, student=student)
        try:
            registry.load(method)(config, teacher, [], torch.device("cpu"))
            found.append((method, ""))
        except UserError as error:
            found.append((method, str(error).splitlines()[0]))
    return found


def settings(student) -> dict:
    """What the student's file says of its training beside STUDENT: the optimiser that goes with its size."""
    return SOAP if max(side for weight in student.parameters() for side in weight.shape) <= LARGEST else ADAMW


def costs(teacher, student, config) -> dict[str, float]:
    """Seconds of drawing and of training in fp32 and in bf16, bytes on disk and in memory, of the first thing to try; a few steps
    are timed."""
    import torch

    from .procedural import registry

    described, rng = teacher.description, torch.Generator().manual_seed(0)
    started = time.monotonic()
    images = registry.load(KIND[described.image_shape[0]])(DRAWN_AT_ONCE, described, rng).float()
    with torch.no_grad():
        logits = teacher(images)
    drawing = (time.monotonic() - started) / DRAWN_AT_ONCE
    training = {precision: _training(student, config, images, logits, precision) for precision in ("fp32", "bf16")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    size = NUMBER * (images[0].numel() + 4 * (described.num_classes + 4))
    all_steps = {precision: NUMBER * config.epochs * seconds for precision, seconds in training.items()}
    return {"drawing": NUMBER * drawing, **all_steps, "disk": size, "memory": peak}


def _training(student, config, images, logits, precision: str) -> float:
    """Seconds of training for an image, by a few steps."""
    import torch

    from .runtime.device import autocast
    from .training import loop, losses

    rows, device = torch.arange(config.batch) % len(images), torch.device("cpu")
    optimizer, done, started = loop.optimizer(student.train(), config), -1, 0.0
    while done < TIMED_STEPS and (done < 1 or time.monotonic() - started < TIMED_SECONDS):
        with autocast(device, precision):
            answers = student(images[rows])
        loop.advance(student, optimizer, losses.kd(answers.float(), logits[rows], config.tau), config.lr)
        done += 1
        if done == 0:  # the first one pays for what is set up once
            started = time.monotonic()
    return (time.monotonic() - started) / done / config.batch


def run(argv=None):
    """dfkd new"""
    given = parser().parse_args(argv)
    made = contents(given)
    for group in made:
        if (path := params.PARAMS / group / f"{given.name}.yaml").exists():
            raise UserError(f"{path}: is there already; choose another NAME, or remove it")
    if given.test and not Path(given.test).is_dir():
        raise UserError(f"--test: {given.test}: no such folder; leave it out until there are test images")
    teacher, student = examine(given.name, made)
    described = teacher.description
    made["student"] |= settings(student)
    if given.test:
        from .reporting import other_images

        found = other_images.listed(Path(given.test), SimpleNamespace(**vars(described)))
    print(f"\nteacher: {described.spelled}, {described.num_classes} classes, images {'x'.join(map(str, described.image_shape))}")
    for line in importlib.import_module("dfkd_steps.models.look").look(teacher):
        print(f"  {line}")
    sizes = [sum(value.numel() for value in net.parameters()) for net in (teacher, student)]
    print(f"student: {student.description.spelled}, {sizes[1]:,} parameters (the teacher has {sizes[0]:,})")
    print("\nmethods:")
    for method, why in fitting(teacher, made["student"]["arch"]):
        print(f"  {method:<15} {'fits' if not why else f'no: {why}'}")
    cost, kind = costs(teacher, student, groups.Student(**made["student"])), KIND[described.image_shape[0]]
    made["student"]["precision"] = precision = min(("fp32", "bf16"), key=cost.get)
    transfer = f"procedural+batch={DRAWN_AT_ONCE}+kind={kind}+n={NUMBER}"
    drawing, training = (progress.duration(cost[part]) for part in ("drawing", precision))
    print(
        f"\nto try first: {transfer}, images drawn by formula (prior-based), for about {drawing} of drawing and {training} of "
        f"training in {precision} on one core of this machine, {max(cost['disk'] / 1e9, 0.1):.1f} GB on disk and "
        f"{cost['memory'] / 1e9 + 0.3:.1f} GB of memory"
    )
    write(given.name, made, params.PARAMS)
    place = f"results/{given.name}/{given.name}/{transfer}/none/{given.name}"
    print(f"wrote {', '.join(f'params/{group}/{given.name}.yaml' for group in made)}\n\n  snakemake {place}/metrics.json")
    if given.test:
        print(f"  dfkd evaluate {place}/student.safetensors --images {shlex.quote(given.test)}")
        print(f"\nthe {len(found)} images of {given.test} are read by the last command alone")


def main(argv=None):
    """Entry of the command: bad input is one line and exit code 2."""
    progress.say("dfkd new: looks at the teacher ...")
    run_guarded("new", lambda: run(argv))


if __name__ == "__main__":
    main()
