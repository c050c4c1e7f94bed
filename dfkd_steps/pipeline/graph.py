"""The graph: which step makes which file from which files, and under which key.

Snakefile, dvc.yaml, the steps and the audit all name files by the templates of this table.
"""

from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import UserError
from . import params, spec


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
    "export": Step("export.json", 5, None, ("distill", "teacher", "balance")),
}


def step_of(path) -> str:
    """The step that makes the artefact at ``path``; raises UserError for any other path."""
    path, depth = Path(path), len(spec.of_path(path))
    for name, step in STEPS.items():
        if (step.output, step.depth) == (path.name, depth):
            return name
    known = ", ".join(step.template for step in STEPS.values())
    raise UserError(f"{spec.display(path)}: no step makes such a file; the artefacts are {known}")


def path_of(step: str, specs: dict[str, str], root: str | Path = "results") -> Path:
    """Where a step's output lies for these specs."""
    return Path(root).joinpath(*(specs[group] for group in spec.GROUPS[: STEPS[step].depth]), STEPS[step].output)


def log_of(path) -> Path:
    """The file that the step which makes an artefact logs to, beside the folder of results."""
    return spec.root_of(path).parent / STEPS[step_of(path)].log.format(**spec.of_path(path))


def name_of(path) -> str:
    """An artefact's path below results/, by which those made from it name it."""
    return Path(path).relative_to(spec.root_of(path)).as_posix()


def sources(transfer: str, dataset: str | None = None) -> list[str]:
    """Data set specs that an arbitrary transfer set is taken from; empty for every data-free method.

    dataset: what ``own`` stands for; without it that one is left out.
    """
    names = params.reads(params.load("transfer", transfer))
    return list(filter(None, (dataset if name == params.OWN_DATASET else name for name in names)))


def inputs_of(path) -> list[Path]:
    """The artefacts a step reads to make ``path``, in the order its command takes them."""
    step, specs, root = step_of(path), spec.of_path(path), spec.root_of(path)
    inputs = [path_of(name, specs, root) for name in STEPS[step].inputs]
    if step == "synthesize":
        inputs += [root / source / STEPS["dataset"].output for source in sources(specs["transfer"], specs["dataset"])]
    return inputs
