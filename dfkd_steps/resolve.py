"""The sweep of params/experiment.yaml for DVC: what its jobs depend on besides data, and the jobs themselves.

    python -m dfkd_steps.resolve         writes   results/_resolved/<step>/<spec>.json   own config and code of a step
                                                  results/_resolved/{evaluate,report}.json, results/_resolved/metrics
    python -m dfkd_steps.resolve STAGE   runs the job of dvc.yaml that the stage ``STEP@SPEC-SPEC...`` names

A comment in YAML or code leaves all of these files as they are. Snakemake goes by the keys that artefacts carry, which are
made of the same config and code (docs/notes/snakemake-triggers.md).
"""

import gc
import itertools
import json
import runpy
import shutil
import sys
from pathlib import Path

from .pipeline import graph, keys, spec
from .pipeline.sweep import finals, literal
from .runtime.commands import guarded
from .runtime.errors import UserError

RESOLVED = "results/_resolved"


def files(experiment: dict):
    """Name below ``results/_resolved`` and content of each file."""
    for step, node in graph.STEPS.items():
        if node.group is None:
            yield f"{step}.json", _json(keys.recipe(step, {}))
            continue
        texts = experiment[node.group] + ((experiment.get("source") or []) if step == "dataset" else [])
        for text in texts:
            content = dict(keys.recipe(step, {node.group: text}))
            if step == "synthesize":
                sources = [str(graph.path_of("dataset", {"dataset": source})) for source in graph.sources(text)]
                # No stage of dvc.yaml can have a data set as a dependency for some transfer sets only: its key stands in.
                content["sources"] = {path: keys.expected_key(path) for path in sources}
            yield f"{step}/{text}.json", _json(content)
    yield "report.json", _json(keys.report_recipe())
    yield "metrics", "".join(f"{path}\n" for path in finals(experiment))


def _json(content) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def write():
    """Write all files of the sweep."""
    contents = dict(files(literal()))
    shutil.rmtree(RESOLVED, ignore_errors=True)
    for name, content in contents.items():
        path = Path(RESOLVED, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def job_of(stage: str, experiment: dict) -> list[str]:
    """Step, output and inputs of the job that a stage of dvc.yaml stands for; DVC joins the specs of a matrix by '-'."""
    step, _, name = stage.rpartition(":")[2].partition("@")  # "../dvc.yaml:STEP@..." where DVC runs in a folder below
    lists = {group: experiment[group] for group in spec.GROUPS}
    if step == "source":
        step, lists = "dataset", {"dataset": experiment.get("source") or []}
    groups = spec.GROUPS[: graph.STEPS[step].depth] if step in graph.STEPS else ()
    for specs in itertools.product(*(lists[group] for group in groups)):
        if groups and "-".join(specs) == name:
            out = graph.path_of(step, dict(zip(groups, specs)))
            return [step, str(out), *map(str, graph.inputs_of(out))]
    raise UserError(f"{spec.display(stage)}: is not a stage of the sweep in params/experiment.yaml; start it with dvc repro")


def run_stage(stage: str):
    """Run the job of a stage in this process, after all of the sweep was checked: no text of it is ever read by a shell."""
    step, *sys.argv[1:] = job_of(stage, literal())
    gc.disable()  # as where the step is started by itself
    runpy.run_module(f"dfkd_steps.{step}", run_name="__main__", alter_sys=True)


def main() -> int:
    """The command; returns the exit code."""
    return guarded("resolve", lambda: run_stage(sys.argv[1]) if len(sys.argv) > 1 else write())


if __name__ == "__main__":
    sys.exit(main())
