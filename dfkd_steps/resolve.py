"""The sweep of params/experiment.yaml for DVC: what its jobs depend on besides data, and the jobs themselves.

    python -m dfkd_steps.resolve         writes   results/_resolved/<step>/<spec>.json   own config and code of a step
                                                  results/_resolved/{evaluate,report}.json, results/_resolved/metrics
    python -m dfkd_steps.resolve STAGE   runs the job of dvc.yaml that the stage ``STEP@SPEC-SPEC...`` names

A comment in YAML or code leaves all of these files as they are. Snakemake goes by the keys that artefacts carry, which are
made of the same config and code (docs/notes/snakemake-triggers.md).

DVC deletes the outputs of a stage before it runs it, current ones that Snakemake made too. So the first command gives each
current artefact a second, hidden name (a hard link), and the second one puts back what was deleted, if it is still current.
DVC's own ``persist: true`` would leave outputs where they are, but DVC then makes no use of its run cache, from which
experiments share what they have in common.

DVC records an output as made by what stands in results/_resolved, whatever the step has read, and a preset may be edited while
``dvc repro`` runs. So the second command compares that file with params/ and code before it works.
"""

import gc
import itertools
import json
import os
import runpy
import shutil
import sys
from pathlib import Path

from .pipeline import audit, graph, keys, spec
from .pipeline.sweep import exports, finals, literal
from .runtime.commands import guarded
from .runtime.errors import UserError

RESOLVED = "results/_resolved"


def files(experiment: dict):
    """Name below ``results/_resolved`` and content of each file."""
    for step, node in graph.STEPS.items():
        if node.group is None:
            yield name_of(step), content_of(step)
            continue
        texts = experiment[node.group] + ((experiment.get("source") or []) if step == "dataset" else [])
        yield from ((name_of(step, text), content_of(step, text)) for text in texts)
    yield "report.json", _json(keys.report_recipe())
    yield "metrics", "".join(f"{path}\n" for path in finals(experiment))


def name_of(step: str, text: str = "") -> str:
    """The file below ``results/_resolved`` that the jobs of a step with this spec depend on."""
    return f"{step}/{text}.json" if text else f"{step}.json"


def content_of(step: str, text: str = "") -> str:
    """Its content, from params/ and the code as they are now."""
    group = graph.STEPS[step].group
    content = dict(keys.recipe(step, {group: text} if group else {}))
    if step == "synthesize":
        sources = [str(graph.path_of("dataset", {"dataset": source})) for source in graph.sources(text)]
        # No stage of dvc.yaml can have a data set as a dependency for some transfer sets only: its key stands in.
        content["sources"] = {path: keys.expected_key(path) for path in sources}
    return _json(content)


def _json(content) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def write():
    """Write all files of the sweep, and keep what is current."""
    refuse_beside_snakemake()
    experiment = literal()
    contents = dict(files(experiment))
    targets = [*finals(experiment), *exports(experiment)]
    paths = audit.lineage(targets)
    stale = audit.stale(paths)
    audit.refuse_gone(audit.to_make(targets, stale))
    shutil.rmtree(RESOLVED, ignore_errors=True)
    for name, content in contents.items():
        path = Path(RESOLVED, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    keep(paths, stale)
    if stale:  # DVC goes by what it has recorded, and nobody knows whether that is right
        print(
            f"{len(stale)} files were made with a different config, code or input, so their stages have to run again; for one "
            "that DVC skips: dvc repro --force STAGE (`dfkd audit` lists the files)",
            file=sys.stderr,
        )


def refuse_beside_snakemake():
    """Raise UserError where Snakemake works in this folder: DVC deletes the output of a stage before it runs, and each driver
    would delete what the other has just made. Snakemake's own rule ``version`` calls DVC, with DFKD_PROGRESS set as in any rule.
    """
    locks = Path(".snakemake/locks")
    if "DFKD_PROGRESS" not in os.environ and locks.is_dir() and any(locks.iterdir()):
        raise UserError(
            f"{locks}: Snakemake works in this folder; wait until it has ended, or if it was killed run snakemake --unlock"
        )


def links_of(out) -> dict[Path, Path]:
    """The files that appear with an artefact, and the hidden name of each; a step that makes the artefact deletes these."""
    return {path: Path(out).with_name(f".{Path(out).name}.kept.{path.name}") for path in audit.outputs(out)}


def keep(paths, stale):
    """Give each artefact of ``paths`` that is not ``stale`` a second, hidden name."""
    for out in filter(os.path.exists, paths):
        current, links = out not in stale, links_of(out)
        try:
            for path, link in links.items():
                if not current or not link.exists() or not link.samefile(path):
                    link.unlink(missing_ok=True)
                    if current:
                        os.link(path, link)
        except OSError as error:
            print(
                f"warning: {out}: cannot be given a second name ({error.strerror}), so DVC may delete it and make it again; "
                "if Snakemake made it, run `snakemake version` first",
                file=sys.stderr,
            )
            return


def restore(out):
    """Put back an artefact that DVC has deleted, if it is whole and current; deletes the hidden names."""
    from .storage import verify  # imports torch, which takes seconds: not where DVC only looks for what is stale

    links = links_of(out)
    if not os.path.exists(out) and all(link.is_file() for link in links.values()):
        for path, link in reversed(links.items()):  # the artefact last: where it is, what belongs to it is there
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            os.link(link, path)
        if audit.fault(out) or verify.verify(out):
            for path in links:
                path.unlink()
        else:
            print(f"{out}: is current; DVC takes it over", flush=True)
    for link in links.values():
        link.unlink(missing_ok=True)


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


def refuse_edited(step: str, out):
    """Raise UserError where params/ or code is not what the first command wrote down for the artefact at ``out``.

    Files that a config names and that are gone do not count: what stands for them comes from artefacts, which DVC may delete.
    """
    group = graph.STEPS[step].group
    text = spec.of_path(out)[group] if group else ""
    path, gone = Path(RESOLVED, name_of(step, text)), keys.gone(out)
    if not path.is_file() or _without(gone, path.read_text()) != _without(gone, content_of(step, text)):
        raise UserError(f"{out}: params/ or code was edited while dvc repro ran ({path} is of before); run dvc repro again")


def _without(gone, content: str) -> dict:
    """A file's content without the external files that are gone."""
    parts = json.loads(content)
    return {**parts, "files": {name: digest for name, digest in parts["files"].items() if name not in gone}}


def hide(out):
    """Leave an artefact its hidden names alone: DVC cannot record it, and a later ``dvc repro`` takes it where it is current."""
    for path, link in links_of(out).items():
        os.replace(path, link)


def run_stage(stage: str):
    """Run the job of a stage in this process, after all of the sweep was checked: no text of it is ever read by a shell.

    Raises UserError where DVC would record its output as made by another config or code. What the first look at params/ and code
    has read is what the step goes by; the second look is for another ``resolve`` that wrote meanwhile.
    """
    step, *sys.argv[1:] = job_of(stage, literal())
    out = sys.argv[1]
    refuse_edited(step, out)
    restore(out)
    gc.disable()  # as where the step is started by itself
    runpy.run_module(f"dfkd_steps.{step}", run_name="__main__", alter_sys=True)
    try:
        refuse_edited(step, out)
    except UserError:
        hide(out)
        raise


def main() -> int:
    """The command; returns the exit code."""
    return guarded("resolve", lambda: run_stage(sys.argv[1]) if len(sys.argv) > 1 else write())


if __name__ == "__main__":
    sys.exit(main())
