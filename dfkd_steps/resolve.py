"""The sweep of an experiment file, and what each of its jobs depends on besides data, as small files for DVC to watch.

    python -m dfkd_steps.resolve     writes   results/_resolved/<step>/<spec>.json   own config and code of a step
                                              results/_resolved/sources/<spec>       data sets a transfer set is taken from
                                              results/_resolved/{evaluate,report}.json, results/_resolved/metrics

A comment in YAML or code leaves all of these files as they are. Snakemake goes by the keys that artefacts carry, which are
made of the same config and code (docs/notes/snakemake-triggers.md).
"""

import json
import shutil
import sys
from pathlib import Path

from .pipeline import graph, keys
from .pipeline.sweep import finals, literal
from .runtime.errors import UserError, print_errors

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
                yield f"sources/{text}", "".join(f"{path}\n" for path in sources)
            yield f"{step}/{text}.json", _json(content)
    yield "report.json", _json(keys.report_recipe())
    yield "metrics", "".join(f"{path}\n" for path in finals(experiment))


def _json(content) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def main() -> int:
    """Write all files of the sweep; returns the exit code."""
    try:
        made = dict(files(literal()))
    except UserError as error:
        return print_errors(error)
    shutil.rmtree(RESOLVED, ignore_errors=True)
    for name, content in made.items():
        path = Path(RESOLVED, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
