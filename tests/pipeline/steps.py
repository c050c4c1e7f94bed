"""A chain of tiny artefacts, made by the steps' own commands inside this process, for tests that break things."""

import contextlib
import hashlib
import importlib
import io
import sys
from pathlib import Path

import numpy as np

from dfkd_steps.pipeline import graph, spec
from dfkd_steps.pipeline.job import run_step

SPECS = dict(zip(spec.GROUPS, ("of-faults", "lenet5+epochs=1", "noise+batch=100+n=300", "none", "lenet5-half+epochs=1")))
PATHS = {step: str(graph.path_of(step, SPECS)) for step in graph.STEPS}
# A method that trains something first, whose state is kept in a file of its own.
ROUNDS = "base: dafl\nmethod: dafl\nn: 60\nbatch: 20\nrounds: 3\nturns: 1\ntrain_batch: 8\nwidth: 4\n"
FILES = [*PATHS.values(), *(str(Path(PATHS[step]).with_name("history.csv")) for step in ("teacher", "distill"))]


def command(step: str, *arguments) -> tuple[int, list[str]]:
    """Exit code and lines ``error: ...`` of ``python -m dfkd_steps.<step> ...``; what is no UserError comes through."""
    run, said, given, code = importlib.import_module(f"dfkd_steps.{step}").run, io.StringIO(), sys.argv, 0
    sys.argv = [step, *map(str, arguments)]
    try:
        with contextlib.redirect_stderr(said):
            run_step(step, run)
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.argv = given
    return code, [line for line in said.getvalue().splitlines() if line.startswith("error: ")]


def make(step: str) -> tuple[int, list[str]]:
    """The command that makes the chain's artefact of a step, by the inputs that it has."""
    return command(step, PATHS[step], *graph.inputs_of(PATHS[step]))


def make_chain(folder: Path, repository: Path, other: dict | None = None, without=()):
    """All artefacts of the chain but those of the steps ``without``, from random images; the working folder has to be ``folder``.
    ``other``: specs by group."""
    PATHS.update({step: str(graph.path_of(step, SPECS | (other or {}))) for step in graph.STEPS})
    (folder / "params").mkdir()
    for group in spec.GROUPS:
        (folder / "params" / group).mkdir()
        for path in (repository / "params" / group).rglob("*.yaml"):
            (folder / "params" / group / path.name).write_bytes(path.read_bytes())
    (folder / "params/dataset/of-faults.yaml").write_text("# Random images.\nsource: npz\npath: images.npz\n")
    (folder / "params/transfer/of-rounds.yaml").write_text(ROUNDS)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (300, 28, 28), np.uint8), np.arange(300) % 10
    np.savez(folder / "images.npz", x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])
    for step in graph.STEPS:
        assert step in without or make(step) == (0, [])


def visible() -> dict[str, str]:
    """sha256 of every file under results/ that is not hidden."""
    files = [path for path in Path("results").rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
