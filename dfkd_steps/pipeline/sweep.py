"""Sweeps: an experiment file's lists of specs, checked, and the combinations of them."""

import hashlib
import itertools
import os
import shlex
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, validators

from ..runtime.errors import UserError, one_line
from ..storage import atomic, exported
from . import audit, fingerprint, graph, params, shards, spec, together
from .plain_yaml import read_mapping

EXPERIMENT = "params/experiment.yaml"
SWEEPS = Path("params/sweeps")
MAX_FILE_BYTES = 1 << 20
OPTIONAL = ("source", "export")  # lists that only DVC needs where they are empty
SCHEMA = fingerprint.HERE / "schemas/experiment.yaml"
# JSON has one kind of number, so 2.0 is an integer there.
Schema = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda checker, value: type(value) is int),
)


def read(path=EXPERIMENT, given=None) -> dict[str, list[str]]:
    """The lists of an experiment file, those in ``given`` instead of the file's, checked and with its seeds expanded.

    Raises UserError that lists every fault.
    """
    content = read_mapping(path, MAX_FILE_BYTES) | (given or {})
    check(content, str(path))
    return expanded(content)


def command(path) -> str:
    """The command that makes what is missing of a sweep."""
    return f"snakemake --config {shlex.quote(f'sweep={path}')}"


def check(experiment: dict, where: str):
    """Is the sweep as its schema says, every spec right, and every data set that is read in one of its lists? UserError lists
    what is not."""
    _refuse(_misfits(experiment), where)
    faults = []
    for group in spec.GROUPS:
        for text in experiment[group]:
            faults += _fault(params.load, group, text)
    datasets, only_read = experiment["dataset"], experiment.get("source") or []
    for text in only_read:
        faults += _fault(params.load, "dataset", text)
        if text in datasets:
            faults.append(f"source: {text!r} is also in the list dataset; remove it from source")
    for text in experiment.get("export") or []:
        if text not in experiment["student"]:
            faults.append(f"export: {text!r} is not in the list student; add it there")
    if not faults:
        for text in experiment["transfer"]:
            for source in graph.sources(text):
                if source not in (*datasets, *only_read):
                    faults.append(
                        f"transfer {text!r} reads {source}, which is in neither dataset nor source; add {source!r} to source"
                    )
            if "seeds" in experiment and "seed" in dict(spec.parse("transfer", text).overrides):
                faults.append(f"transfer {text!r} sets a seed, but seeds sets others; remove one of them")
    for text in experiment["dataset"] if "shadows" in experiment and not faults else []:
        config = params.load("dataset", text)
        if not config.canaries or config.shadow:
            faults.append(f"dataset {text!r} {'sets a shadow' if config.shadow else 'has no canaries'}, but the "
                          "sweep has shadows; write NAME+canaries=NUMBER")  # fmt: skip
    _refuse(faults, where)
    for groups in (("dataset", "transfer"), ("dataset", "teacher", "student"), spec.GROUPS[2:]):
        grid = itertools.product(*(experiment[group] for group in groups))
        _refuse([fault for specs in grid for fault in together.faults(dict(zip(groups, specs)))])
    expanded(experiment)


def expanded(experiment: dict) -> dict[str, list[str]]:
    """The sweep without ``shadows`` and ``seeds``: every data set once per shadow, every transfer spec once per seed, those of a
    spec one after the other."""
    lists = {name: value for name, value in experiment.items() if name not in ("seeds", "shadows")}
    if shadows := experiment.get("shadows"):
        numbers = range(1, shadows + 1)
        lists["dataset"] = [_with("dataset", text, "shadow", number) for text in experiment["dataset"] for number in numbers]
    if seeds := experiment.get("seeds"):
        lists["transfer"] = [_with("transfer", text, "seed", seed) for text in experiment["transfer"] for seed in seeds]
    return lists


def _with(group: str, text: str, key: str, value: int) -> str:
    """A spec with another value of a key."""
    if getattr(params.load(group, text), key) == value:
        return text  # the one spelling of this experiment
    parsed = spec.parse(group, text)
    overrides = (*parsed.overrides, (key, str(value)))
    return str(spec.parse(group, str(spec.Spec(group, parsed.name, tuple(sorted(overrides))))))


def to_yaml(path) -> str:
    """The literal lists of a sweep as plain YAML: what params/experiment.yaml has to be for DVC. UserError where the sweep is
    wrong, or where DVC could not tell its stages apart."""
    lists = read(path)
    _refuse(_same_stages(lists, path))
    content = {**lists, **{name: lists.get(name) or [] for name in OPTIONAL}}
    return f"# The sweep {path} as literal lists, by `dfkd sweep`.\n" + yaml.safe_dump(content, sort_keys=False, width=130)


def write_literal(path):
    """Replace params/experiment.yaml by the literal lists of a sweep; where that raises, the file stays as it was.

    The shell's > would empty the file before the sweep is read, which may be this very file.
    """
    atomic.write(EXPERIMENT, to_yaml(path).encode())


def check_versioned(experiment: dict):
    """Is the sweep the one of params/experiment.yaml, which is what DVC versions? UserError if not."""
    lists = literal()
    if lists != {**expanded(experiment), **{name: experiment.get(name) or [] for name in OPTIONAL}}:
        remedy = "run `dfkd sweep FILE --write` and `snakemake version`"
        raise UserError(f"version: DVC versions the sweep of {EXPERIMENT}, but this is a different one; {remedy}")


def literal(path=EXPERIMENT) -> dict[str, list[str]]:
    """The lists of an experiment file, for DVC, which reads them as they stand; UserError where it would read other ones."""
    lists, content = read(path), read_mapping(path, MAX_FILE_BYTES)
    if short := [name for name in ("seeds", "shadows") if name in content]:
        raise UserError(f"{path}: has {short[0]}, which DVC does not expand; run `dfkd sweep {path} --write`")
    for name in OPTIONAL:
        if name not in content:
            raise UserError(f"{path}: has no list {name}, which DVC needs; add the line '{name}: []'")
    _refuse(_same_stages(lists, path))
    return lists


def _same_stages(lists, path) -> list[str]:
    """A line for each two parts of a path whose stages have one name: DVC joins the specs of a stage by '-'."""
    faults, first = [], {}
    for specs in itertools.product(*(lists[group] for group in spec.GROUPS)):
        other = first.setdefault("-".join(specs), specs)
        groups = [place for place, text in enumerate(specs) if text != other[place]]
        if groups:
            these, those = (", ".join(f"{spec.GROUPS[place]} {texts[place]!r}" for place in groups) for texts in (other, specs))
            text = "-".join(specs[place] for place in groups)
            faults.append(f"{path}: {these} and {those} have one name in DVC, {text!r}; rename one of these files of params/")
    return faults


def _misfits(experiment) -> list[str]:
    """A line for each way in which a sweep is not as its schema says, which describes what to give instead."""
    schema = yaml.safe_load(SCHEMA.read_text())
    errors = Schema(schema).iter_errors(experiment)
    return sorted(
        f"{': '.join([*map(str, error.path), one_line(error.message)])}; {error.schema['description']}" for error in errors
    )


def check_paths(paths):
    """Does each path under results/ spell a file that the pipeline makes, from specs that are right? UserError lists what does
    not."""
    faults = []
    for path in map(artefact_of, map(Path, paths)):
        of_path = _fault(graph.step_of, path) or [
            line for group, text in spec.of_path(path).items() for line in _fault(params.load, group, text)
        ]
        faults += of_path or together.faults(spec.of_path(path))
    _refuse(faults)


def artefact_of(path: Path) -> Path:
    """The artefact that a file is made with: of a history the network beside it, of a shard the whole set, of what lies in
    export/ the export.json beside it."""
    if path.parent.name == shards.FOLDER:
        return path.parents[1] / graph.STEPS["synthesize"].output
    if path.parent.name == exported.FOLDER and path.name in exported.NAMES:
        return path.parents[1] / graph.STEPS["export"].output
    networks = {graph.STEPS[name].depth: graph.STEPS[name].output for name in audit.NETWORKS}
    depth = len(path.parts) - 2
    return path.with_name(networks[depth]) if path.name == audit.HISTORY and depth in networks else path


def _refuse(faults: list[str], where: str = ""):
    """Raise UserError with the faults, each once, if there are any; ``where`` they are goes before each."""
    if faults:
        raise UserError("\n".join(f"{where}: {fault}" if where else fault for fault in dict.fromkeys(faults)))


def _fault(function, *arguments) -> list[str]:
    try:
        function(*arguments)
    except UserError as error:
        return str(error).splitlines()
    return []


def finals(experiment: dict) -> list[str]:
    """The metrics of every combination of the sweep, in order."""
    return _paths("evaluate", expanded(experiment))


def exports(experiment: dict) -> list[str]:
    """The export.json of every combination whose student is in the list export."""
    return _paths("export", expanded(experiment) | {"student": experiment.get("export") or []})


def report_folder(file) -> str:
    """The folder of a sweep's report, one for each file, so that no sweep replaces another's: report/ for params/experiment.yaml,
    as DVC has it, report/NAME for params/sweeps/NAME.yaml, and for any other file its name and a hash of its path."""
    path = Path(os.path.relpath(file))
    if path == Path(EXPERIMENT):
        return "report"
    if path == SWEEPS / f"{path.stem}.yaml":
        return f"report/{path.stem}"
    return f"report/{path.stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


def _paths(step, lists) -> list[str]:
    grid = itertools.product(*(lists[group] for group in spec.GROUPS))
    return [str(graph.path_of(step, dict(zip(spec.GROUPS, specs)))) for specs in grid]
