"""Sweeps: an experiment file's lists of specs, checked, and the combinations of them."""

import itertools
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..runtime.errors import UserError, one_line
from . import audit, fingerprint, graph, params, shards, spec

EXPERIMENT = "params/experiment.yaml"
SCHEMA = fingerprint.HERE / "schemas/experiment.yaml"


def read(path=EXPERIMENT) -> dict[str, list[str]]:
    """The lists of an experiment file, checked; raises UserError that lists every fault."""
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
    except (yaml.YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not readable YAML: {one_line(error, 200)}; mend the file") from None
    check(content, str(path))
    return content


def check(experiment: dict, where: str):
    """Is the sweep as its schema says, every spec right, and every data set that is read in one of its lists? UserError lists
    what is not."""
    _refuse(_misfits(experiment, where))
    faults = []
    for group in spec.GROUPS:
        for text in experiment[group]:
            faults += _fault(params.load, group, text)
    datasets, only_read = experiment["dataset"], experiment.get("source") or []
    for text in only_read:
        faults += _fault(params.load, "dataset", text)
        if text in datasets:
            faults.append(f"{where}: source: {text!r} is in the list dataset too; take it out of source")
    if not faults:
        for text in experiment["transfer"]:
            for source in graph.sources(text):
                faults += _fault(params.load, "dataset", source)
                if source not in (*datasets, *only_read):
                    faults.append(f"{where}: transfer {text!r} reads {source}, which is in no list; add {source!r} to source")
    _refuse(faults)


def check_versioned(experiment: dict):
    """Is the sweep the one of params/experiment.yaml, which is what DVC versions? UserError if not."""
    known = read()
    if {**known, "source": known.get("source") or []} != {**experiment, "source": experiment.get("source") or []}:
        remedy = f"copy the sweep to {EXPERIMENT} and run `snakemake version`"
        raise UserError(f"version: DVC versions the sweep of {EXPERIMENT}, and this is another; {remedy}")
    if "source" not in known:
        raise UserError(f"{EXPERIMENT}: has no list source, which DVC asks for; add the line 'source: []'")


def _misfits(experiment, where: str) -> list[str]:
    """A line for each way in which a sweep is not as its schema says, which describes what to give instead."""
    schema = yaml.safe_load(SCHEMA.read_text())
    found = jsonschema.Draft202012Validator(schema).iter_errors(experiment)
    return sorted(
        f"{': '.join([where, *map(str, error.path), one_line(error.message)])}; {error.schema['description']}" for error in found
    )


def check_paths(paths):
    """Does each path under results/ spell a file that the pipeline makes, from specs that are right? UserError lists what does
    not."""
    faults = []
    for path in map(_artefact, map(Path, paths)):
        faults += _fault(graph.step_of, path) or [
            line for group, text in spec.of_path(path).items() for line in _fault(params.load, group, text)
        ]
    _refuse(faults)


def _artefact(path: Path) -> Path:
    """The artefact that a file is made with: of a history the network beside it, of a shard the whole set."""
    if path.parent.name == shards.FOLDER:
        return path.parents[1] / graph.STEPS["synthesize"].output
    networks = {graph.STEPS[name].depth: graph.STEPS[name].output for name in audit.NETWORKS}
    depth = len(path.parts) - 2
    return path.with_name(networks[depth]) if path.name == audit.HISTORY and depth in networks else path


def _refuse(faults: list[str]):
    """Raise UserError with the faults, each once, if there are any."""
    if faults:
        raise UserError("\n".join(dict.fromkeys(faults)))


def _fault(function, *arguments) -> list[str]:
    try:
        function(*arguments)
    except UserError as error:
        return str(error).splitlines()
    return []


def finals(experiment: dict) -> list[str]:
    """The metrics of every combination of the sweep, in order."""
    grid = itertools.product(*(experiment[group] for group in spec.GROUPS))
    return [str(graph.path_of("evaluate", dict(zip(spec.GROUPS, specs)))) for specs in grid]
