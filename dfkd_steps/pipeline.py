"""The graph: which step makes which file from which files, and under which key.

Snakefile, dvc.yaml, the steps and the audit all name files by the templates of this table.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from . import code, config, methods, models, spec
from .errors import UserError


@dataclass(frozen=True)
class Step:
    """A step's output file at ``depth`` specs below results/, its own config group and its inputs by step name."""

    output: str
    depth: int
    group: str | None
    inputs: tuple[str, ...]

    @property
    def template(self) -> str:
        """The output path with the groups as wildcards."""
        return "/".join(["results", *(f"{{{g}}}" for g in spec.GROUPS[: self.depth]), self.output])

    @property
    def log(self) -> str:
        """The file that the step's rule logs to, with the groups as wildcards."""
        return f"logs/{self.template}.log"


STEPS = {
    "dataset": Step("dataset.h5", 1, "dataset", ()),
    "teacher": Step("teacher.safetensors", 2, "teacher", ("dataset",)),
    "synthesize": Step("transfer_set.h5", 3, "transfer", ("teacher",)),
    "balance": Step("transfer_set.h5", 4, "balance", ("teacher", "synthesize")),
    "distill": Step("student.safetensors", 5, "student", ("teacher", "balance")),
    "evaluate": Step("metrics.json", 5, None, ("distill", "teacher", "dataset")),
}


def step_of(path) -> str:
    """The step that makes the artefact at ``path``; raises UserError for any other path."""
    path, depth = Path(path), len(spec.of_path(path))
    for name, step in STEPS.items():
        if (step.output, step.depth) == (path.name, depth):
            return name
    known = ", ".join(step.template for step in STEPS.values())
    raise UserError(f"{spec.shown(path)}: no step makes such a file; the artefacts are {known}")


def path_of(step: str, specs: dict[str, str], root="results") -> Path:
    """Where a step's output lies for these specs."""
    return Path(root).joinpath(*(specs[group] for group in spec.GROUPS[: STEPS[step].depth]), STEPS[step].output)


def sources(transfer: str) -> list[str]:
    """Data set specs that an arbitrary transfer set is taken from; empty for every data-free method."""
    return config.reads(config.load("transfer", transfer))


def inputs_of(path) -> list[Path]:
    """The artefacts a step reads to make ``path``, in the order its command takes them."""
    step, specs, root = step_of(path), spec.of_path(path), spec.root_of(path)
    found = [path_of(name, specs, root) for name in STEPS[step].inputs]
    if step == "synthesize":
        found += [root / source / STEPS["dataset"].output for source in sources(specs["transfer"])]
    return found


def own_config(step: str, specs: dict[str, str]) -> str:
    """The resolved config that the step itself reads, as canonical JSON ('' for evaluate)."""
    group = STEPS[step].group
    return config.canonical(group, specs[group]) if group else ""


@functools.cache
def group_code(group: str, text: str) -> tuple[tuple[str, ...], str]:
    """What only this spec's kind needs: modules (a method, an architecture), and the architecture's line of the registry."""
    made = config.load(group, text)
    found = [methods.REGISTRY[made.method].split(".", 1)[1]] if group == "transfer" else []
    arch = getattr(made, "arch", None) or getattr(made, "student", None)
    if arch not in models.REGISTRY:
        return tuple(found), ""
    return (*found, models.module_of(arch)), json.dumps(models.REGISTRY[arch], sort_keys=True)


def code_of(step: str, specs: dict[str, str]) -> str:
    """Fingerprint of the code that makes this step's output for these specs."""
    group = STEPS[step].group
    own, salt = group_code(group, specs[group]) if group else ((), "")
    return code.fingerprint(step, *own, salt=salt)


def make_key(step: str, specs: dict[str, str], input_keys) -> str:
    """The key of an artefact: its config, its code, the keys of its inputs."""
    digest = hashlib.sha256(code_of(step, specs).encode())
    digest.update(own_config(step, specs).encode())
    for key in input_keys:
        digest.update(key.encode())
    return digest.hexdigest()[:20]


@functools.cache
def expected_key(path: str) -> str:
    """The key that the artefact at ``path`` has to carry, from params/ and the code alone."""
    return make_key(step_of(path), spec.of_path(path), [expected_key(str(one)) for one in inputs_of(path)])


@functools.cache
def report_code() -> str:
    """Fingerprint of the code that makes the report, its templates included."""
    digest = hashlib.sha256(code.fingerprint("report").encode())
    for template in sorted(code.HERE.joinpath("reporting").glob("*.j2")):
        digest.update(template.read_bytes())
    return digest.hexdigest()[:16]


def report_key(keys: dict[str, str]) -> str:
    """The key of a report, from the path and key of each metrics.json it is made from."""
    digest = hashlib.sha256(report_code().encode())
    for path, key in sorted(keys.items()):
        digest.update(f"{path}\0{key}\0".encode())
    return digest.hexdigest()[:20]
