"""Command ``dfkd new``: write the params files for a teacher without data, after inspecting the teacher.

dfkd new mine --teacher timm:resnet18 --checkpoint mine.pth --classes cat,dog --size 224x224 --student timm:mobilenetv3_small_050
"""

import argparse
import contextlib
import dataclasses
import shlex
import tempfile
from pathlib import Path
from types import SimpleNamespace

from .models import tasks
from .pipeline import estimate, params, spec
from .pipeline.job import run_guarded
from .reporting import params_files
from .runtime import progress
from .runtime.errors import UserError, is_out_of_memory
from .schemas import groups

INSPECTED = 500  # images of --data that are decoded, or two per class: a teacher depends on them by mean and std at most
NUMBER = {tasks.CLASSIFICATION: 20_000, tasks.SEGMENTATION: 2_000}  # images to try first; in maps each pixel is a prediction
KIND = {1: "strokes", 3: "scenes"}  # of classification; maps have several things in an image, as scenes do


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
    text = "label of void pixels in masks (255 is always void)"
    top.add_argument("--void", type=tasks.void_label, default=tasks.VOID, metavar="N", help=text)
    return top


def _takes(preset: str, described) -> str:
    """How much a method makes, and what it needs for that, by its preset."""
    takes = estimate.of_config("transfer", params.load("transfer", preset), estimate.of_network(described))
    steps = f"{takes.steps:,} steps, " if takes.steps else ""
    return f"{takes.samples:,} images, {steps}at least {estimate.size(takes.memory)} of memory"


def _takes_first(cost: dict[str, float] | None, student: dict, file: str) -> str:
    """What the first thing to try costs (``first_try.costs``; None where memory ran out), with a ``student`` as in its file."""
    if not cost:
        return f"a step on {student['batch']} images takes more memory than there is: lower batch in {file}"
    precision = student["precision"]
    drawing, training = (progress.duration(cost[part]) for part in ("drawing", precision))
    return (
        f"drawing them takes about {drawing}, training about {training} in {precision}, on one core of this machine, with "
        f"{max(cost['disk'] / 1e9, 0.1):.1f} GB on disk and {cost['memory'] / 1e9 + 0.3:.1f} GB of memory"
    )


def named(name: str, files: dict[str, dict]) -> dict[tuple[str, str], dict]:
    """The files of each group under the name of the task."""
    return {(group, name): content for group, content in files.items()}


def examine(name: str, files: dict[str, dict]):
    """The teacher as it will be imported, the student as it will begin, and a data set; from files that are thrown away."""
    from . import dataset as dataset_step
    from .datasets import readers
    from .models import pretrained
    from .models.classifier import new_classifier
    from .storage import dataset_file

    with tempfile.TemporaryDirectory() as folder, _as_written(folder):
        params_files.write(named(name, files), Path(folder))
        config = {group: params.load(group, name, Path(folder)) for group in files}
        source, path = readers.read(config["dataset"], most=INSPECTED), Path(folder, "dataset.h5")
        dataset_file.write(
            path, "", {}, source.classes, dataset_step.prepare(config["dataset"], source), source.keep, source.card
        )
        dataset = dataclasses.replace(dataset_file.open_dataset(path), path=Path(f"params/dataset/{name}.yaml"))
        read = pretrained.import_library if files["teacher"]["kind"] == "library" else pretrained.import_checkpoint
        teacher = read(config["teacher"], dataset).requires_grad_(False)
        return teacher, new_classifier(config["student"].arch, teacher.description, 0)


@contextlib.contextmanager
def _as_written(folder: str):
    """Errors name the files as they will be written, not those in a temporary folder."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(folder, str(params.PARAMS))) from None


def run(argv=None):
    """dfkd new"""
    given = parser().parse_args(argv)
    files = params_files.contents(given)
    arch = files["student"]["arch"]
    further = params_files.data_free(given.name, {}, arch)  # the names alone: before the work
    params_files.new_paths([*named(given.name, files), *further], params.PARAMS)
    if given.test and not Path(given.test).is_dir():
        raise UserError(f"--test: {given.test}: no such folder; leave --test out until there are test images")
    from .models import look
    from .reporting import first_try

    teacher, student = examine(given.name, files)
    described = teacher.description
    if not described.dense:
        files["student"] |= params_files.settings(student)
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
    cost = _in_memory(lambda: first_try.costs(teacher, student, groups.Student(**files["student"]), kind, number))
    print("\nmethods:")
    for method, preset, why in first_try.fitting(teacher, arch):
        print(f"  {method:<15} {f'no: {why}' if why else f'fits, preset {preset} ({_takes(preset, described)})'}")
    transfer = first_try.drawn_spec(kind, number)
    if cost:
        files["student"]["precision"] = min(("fp32", "bf16"), key=cost.get)
    takes = _takes_first(cost, files["student"], f"params/student/{given.name}.yaml")
    print(f"\nto try first: {transfer}, procedural images (prior-based); {takes}")
    further, line = _from_the_teacher(given.name, teacher, arch)
    params_files.write(named(given.name, files) | further, params.PARAMS)
    place, real = (
        f"results/{given.name}/{given.name}/{of}/none/{given.name}"
        for of in (transfer, f"dataset+batch={first_try.DRAWN_AT_ONCE}+source={params.OWN_DATASET}")
    )
    print(line, end="")
    written = [*named(given.name, files), *further]
    print(f"wrote {', '.join(f'params/{group}/{name}.yaml' for group, name in written)}\n\n  snakemake {place}/metrics.json")
    if further:
        print(f"  snakemake results/{'/'.join([given.name] * 3)}/none/{given.name}-inside/metrics.json")
    if given.data:
        print(f"  snakemake {real}/metrics.json    # for comparison: trained on the images of {spec.display(given.data)}")
    if given.test:
        void = f" --void {given.void}" if described.dense and given.void != tasks.VOID else ""
        print(f"  dfkd evaluate {place}/student.safetensors --images {shlex.quote(given.test)}{void}")
        if not (given.data and Path(given.test).resolve().is_relative_to(Path(given.data).resolve())):
            print(f"\nonly the last command reads the {len(test_images)} images of {given.test}")
    if files["student"].get("select") == "agreement":
        print(
            f"\nits progress: column agreement of {place}/history.csv, the share of held-out images on which student and "
            "teacher predict the same class; this is not an accuracy"
        )


def _from_the_teacher(name: str, teacher, arch: str) -> tuple[dict, str]:
    """The files of a run from the teacher alone with a student ``arch``, and a line on it; none where no preset is known."""
    from .reporting import first_try

    if not (preset := first_try.data_free(teacher)):
        return {}, ""
    try:
        config = dataclasses.replace(params.load("transfer", preset), student=arch)
        seconds = _in_memory(lambda: first_try.seconds_of(teacher, config))
    except UserError as error:  # a method that does not fit, or a training that fails with this student
        why = str(error).splitlines()[0]
        return {}, f"from the teacher alone, the preset {preset} does not work with this student: {why}\n"
    if seconds is None:
        smaller = "give it smaller batches (docs/image-size.md)"
        return {}, f"from the teacher alone, the preset {preset} takes more memory than there is; {smaller}\n"
    taken = progress.duration(seconds)
    line = f"then, from the teacher alone: {name}, the preset {preset} with your student; about {taken} on one core\n"
    return params_files.data_free(name, params.values_of("transfer", preset), arch), line


def _in_memory(compute):
    """What ``compute()`` returns; None where memory runs out, which is no reason to write no files."""
    try:
        return compute()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


def _test_images(given, described) -> list:
    """The test images, none of them opened; their folders are compared with the classes now, not after the work."""
    from .reporting import other_images, other_maps

    if described.dense:
        return other_maps.listed(Path(given.test))
    return other_images.listed(Path(given.test), SimpleNamespace(**vars(described)))


def main(argv=None):
    """Entry of the command: bad input is one line and exit code 2."""
    parser().parse_args(argv)  # help and wrong options end here, before torch is loaded
    progress.say("dfkd new: inspecting the teacher ...")
    run_guarded("new", lambda: run(argv), uses_gpu=False)


if __name__ == "__main__":
    main()
