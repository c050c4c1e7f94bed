"""What can be known of a whole path before anything runs: parts that are right alone and do not go together."""

from dataclasses import asdict
from pathlib import Path

from ..datasets import image_files
from ..methods.registry import unfit_for
from ..models import names, registry, statistics, tasks
from . import estimate, graph, params, spec

# Fields of a data set that say which of the images in its files are for what.
SPLIT = ("train", "test", "val", "seed", "canaries", "shadow", "test_share", "sha256")


def faults(specs: dict[str, str]) -> list[str]:
    """A line for each pair of specs that cannot go together; specs by group, as many as a path, or a sweep for a pair, has."""
    lines = of_sources(specs["dataset"], specs["transfer"]) if {"dataset", "transfer"} <= specs.keys() else []
    lines += _of_task(specs) if "dataset" in specs else []
    lines += _of_outputs(specs) if {"dataset", "student"} <= specs.keys() else []
    return lines + (_of_student(specs) if {"transfer", "balance", "student"} <= specs.keys() else [])


def of_sources(dataset: str, transfer: str) -> list[str]:
    """A line for each source of a transfer set that has images among its training images which the data set holds out."""
    lines, held = [], _held_out(params.load("dataset", dataset))
    for source in filter(lambda source: same_files(dataset, source), graph.sources(transfer)):
        there = _held_out(params.load("dataset", source))
        if differ := [name for name, value in held.items() if there.get(name) != value]:
            lines.append(
                f"transfer {transfer!r} on dataset {dataset!r}: the training images of {source} include those that {dataset} is "
                f"tested on ({' and '.join(differ)} differ); write source=own"
            )
    return lines


def _of_task(specs: dict[str, str]) -> list[str]:
    """A line for each network whose name tells that it is not for the task of the data set, and for logits that maps have not."""
    lines, needed = [], estimate.declared_task(params.load("dataset", specs["dataset"]))
    fitting = ", ".join(name for name in registry.names() if registry.task_of(name) == needed)
    for group, text in specs.items():
        config, where = params.load(group, text), f"{group} {text!r} on dataset {specs['dataset']!r}"
        network = _network_of(config, needed)
        task = task_by_name(*names.split(network)) if network else None
        if task not in (None, needed):
            lines.append(
                f"{where}: the network {network} is for {task}, but the data set is for {needed}; use one of {fitting}, or one "
                "from a library"
            )
        if needed == tasks.SEGMENTATION and getattr(config, "views_kept", 0):
            lines.append(f"{where}: views_kept: logits of single pixels are not stored; set views_kept: 0")
    return lines


def _network_of(config, task: str) -> str:
    """The network that a teacher, a student or a method with an online student names; '' where none is named, and of a method
    that is not for the task, which is refused for that."""
    if hasattr(config, "method"):
        return "" if unfit_for(config.method, task) else getattr(config, "student", "")
    if getattr(config, "kind", "") == "library":
        return names.spelled(config.library, config.name)
    return getattr(config, "arch", "")


def task_by_name(builder: str, name: str) -> str | None:
    """What a network of ours or of a library is for; None where its name does not tell."""
    if builder == names.FACTORY:
        return None
    if builder == "arch":
        return registry.task_of(name) if name in registry.REGISTRY else None
    dense = builder == names.SMP or name in names.for_segmentation(builder)
    return tasks.SEGMENTATION if dense else tasks.CLASSIFICATION


def _of_outputs(specs: dict[str, str]) -> list[str]:
    if params.load("student", specs["student"]).outputs == "kept":
        return []
    teacher = params.load("teacher", specs["teacher"]) if "teacher" in specs else None
    why = "" if getattr(params.load("dataset", specs["dataset"]), "keep", ()) else "the data set has no keep"
    if teacher and not getattr(teacher, "checkpoint", "") and not getattr(teacher, "weights", ""):  # trained here, or random
        why = why or f"teacher {specs['teacher']!r} has the classes of the data set alone"
    if not why:
        return []
    return [
        f"student {specs['student']!r} on dataset {specs['dataset']!r}: outputs: all needs a teacher that is cut to some of its "
        f"classes, but {why}; set outputs: kept"
    ]


def same_files(dataset: str, other: str) -> bool:
    """Do two data sets take the same images from the same files, however they split them?"""
    first, second = (params.load("dataset", text) for text in (dataset, other))
    return type(first) is type(second) and _unsplit(first) == _unsplit(second)


def _unsplit(config) -> dict:
    return {name: value for name, value in asdict(config).items() if name not in SPLIT}


def _held_out(config) -> dict:
    """The fields that decide which images in the files are no training images, if any do."""
    fields = ["val", "seed"] if config.val else []
    if hasattr(config, "test_share") and not any(Path(config.path, name).is_dir() for name in image_files.TESTS):
        fields += ["test_share", "seed"]
    return {name: getattr(config, name) for name in fields}


def _of_student(specs: dict[str, str]) -> list[str]:
    transfer, balance, student = (params.load(group, specs[group]) for group in ("transfer", "balance", "student"))
    lines, where = [], f"student {specs['student']!r} on transfer {specs['transfer']!r}"
    inside = getattr(transfer, "student", None)
    if student.init == "transfer" and inside != student.arch:
        have = f"trains a {inside}" if inside else "trains no student"
        lines.append(
            f"{where}: init: transfer starts from a {student.arch}, but the method of this set {have}; "
            f"{_remedy(specs, student, inside)}"
        )
    if student.sampling == "given" and balance.mode != "weight":
        lines.append(
            f"{where}: sampling: given needs weights, which balance {specs['balance']!r} does not provide; use balance weight"
        )
    answers_by_batch = getattr(transfer, "statistics", "") == statistics.CURRENT
    if answers_by_batch and student.epochs and student.batch < statistics.FEWEST and not student.augment == student.mix == "none":
        lines.append(
            f"{where}: batch: {student.batch} images together are too few for batch statistics (statistics: current); use "
            f"{statistics.FEWEST} or more, or augment: none"
        )
    if balance.mode != "none" and (why := _unbalanced(balance, student)):
        lines.append(f"{where}: balance {specs['balance']!r} would change nothing, because {why}")
    return lines


def _unbalanced(balance, student) -> str:
    """Why a student does not depend on how its set is balanced, and the remedy; empty where it does."""
    if not student.epochs:
        return "the student is taken as the method left it (epochs: 0); use balance none, or epochs to train it further"
    if balance.mode == "weight" and student.sampling != "given":
        return "weights are used only with sampling: given; set that, or use balance none or equal"
    if student.fresh and student.select == "last":
        return "every image is a new one (fresh: true); use balance none, or fresh: false"
    return ""


def _remedy(specs, student, inside) -> str:
    if not inside:
        return "set init: random, or use a method that trains a student (dafl, fast, ...)"
    parsed = spec.parse("transfer", specs["transfer"])
    overrides = sorted([*parsed.without("student").overrides, ("student", student.arch)])
    return f"write {spec.Spec('transfer', parsed.name, tuple(overrides))}, or set init: random"
