"""One call of a step: its command line, its config, its key; and the one place where a step's errors become a line."""

import argparse
import contextlib
import importlib
import os
import platform
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from ..runtime import event_files, limits, memory, progress
from ..runtime.commands import expanded, guarded
from ..runtime.errors import Changed, UserError
from ..storage import hdf5
from ..storage.atomic import key_of, seal_of
from . import estimate, fingerprint, graph, keys, params, spec

# Whose versions bytes depend on. Of the optional ones those that the job has loaded: name of the module -> of the package.
LIBRARIES = ("torch", "torchvision", "numpy", "h5py", "safetensors", "pillow", "pytorch-optimizer", "mlxtend")
OPTIONAL = {"timm": "timm", "segmentation_models_pytorch": "segmentation-models-pytorch"}


@dataclass(frozen=True)
class Job:
    """What one call of a step is to do: the file to make, its inputs, its own typed config, its key."""

    step: str
    out: Path
    inputs: list[Path]
    config: object
    key: str
    input_keys: dict[str, str]
    recipe: dict = field(default_factory=dict)
    seen: dict[Path, tuple] = field(default_factory=dict)  # what ``_look`` gave for each input when the job began

    def provenance(self, device) -> dict:
        """What made the artefact; no dates, host names or durations, so that bytes repeat.

        Raises Changed where an input, or a file that the config names, was changed since the job began, even if it was changed
        back: which content was read, nobody knows.
        """
        from ..runtime.device import settings  # imports torch, which takes seconds: not where keys are asked for

        before = self.recipe.get("files", {})
        now = keys.files(self.config) if before else {}
        changed = [name for name, digest in before.items() if now.get(name) != digest]
        changed += [path for path, before in self.seen.items() if not _same(before, _look(path))]
        if changed:
            raise Changed(f"{changed[0]}: was changed while it was read; run the step again")
        libraries = [*LIBRARIES, *(name for module, name in OPTIONAL.items() if module in sys.modules)]
        versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in libraries}}
        return {"step": self.step, **self.recipe, "inputs": self.input_keys, "versions": versions, **settings(device)}


def _look(path) -> tuple:
    """Inode, time and size of an input, and the checksum that it carries; not the time of its last change, which a new hard link
    sets too."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return status.st_ino, status.st_mtime_ns, status.st_size, seal_of(path)
    return ()


def _same(before: tuple, now: tuple) -> bool:
    """Is an input what it was? As it was left, or another file with the same content (``dvc checkout`` and backups make these):
    whoever has opened the old one still reads that. But not the same file written to, even if it was changed back."""
    return before == now or (len(now) > 0 and before[:1] != now[:1] and before[2:] == now[2:] and None not in now)


def parse_job(step: str, argv=None, uses_gpu: bool = True) -> Job:
    """The job of a command line ``python -m dfkd_steps.<step> OUT IN...``; checks paths, config and inputs."""
    made_by = sys.modules.get(f"dfkd_steps.{step}") or sys.modules["__main__"]
    template = graph.STEPS[step].template
    parser = argparse.ArgumentParser(prog=f"python -m dfkd_steps.{step}", description=(made_by.__doc__ or "").strip(),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("out", metavar="OUT", help=f"the file to make: {template}")
    parser.add_argument("inputs", metavar="IN", nargs="*", help="the artefacts that it is made from, in the order of the rule")
    arguments = parser.parse_args(expanded(sys.argv[1:] if argv is None else argv))
    out, given = Path(arguments.out), [Path(path) for path in arguments.inputs]
    if graph.step_of(out) != step:
        raise UserError(f"{spec.display(out)}: is made by the step {graph.step_of(out)}, not {step}; give a path like {template}")
    specs = spec.of_path(out)
    for name, text in specs.items():
        spec.parse(name, text)
    needed = graph.inputs_of(out)
    if given != needed:
        expected = " ".join(map(str, needed)) or "no inputs"
        raise UserError(f"{out}: inputs are {' '.join(map(spec.display, given)) or 'none'}; give {expected}")
    group = graph.STEPS[step].group
    typed = params.load(group, specs[group]) if group else None
    seen = {path: _look(path) for path in needed}
    for path in needed:
        if path.suffix == ".h5":  # a network's own checksum is compared where its weights are read
            hdf5.check(path)
    input_keys = {graph.name_of(path): key_of(path) for path in needed}
    progress.begin(f"{step} {'/'.join(specs.values())}")
    event_files.begin(out)
    recipe = keys.recipe(step, specs, out)
    for module in keys.chosen_code(typed)[0] if typed else []:  # now, and not when it is first needed: it may be edited meanwhile
        importlib.import_module(f"dfkd_steps.{module}")
    fingerprint.refuse_changed(recipe["code"])
    if not out.exists():
        estimate.refuse([out], here=not memory.on_gpu(uses_gpu))
    return Job(step, out, needed, typed, keys.key_from(recipe, input_keys.values()), input_keys, recipe, seen)


def run_step(step: str, run, uses_gpu: bool = True):
    """Entry of a step: ``run(job)`` inside; bad input is one line and exit code 2."""

    def work():
        run(parse_job(step, uses_gpu=uses_gpu))
        say_memory(step)

    run_guarded(step, work, uses_gpu)


def say_memory(step: str):
    """Says how much memory the step took: estimates are lower bounds, and a batch system wants a number."""
    held, torch = estimate.size(limits.peak()), sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        held += f", and {estimate.size(torch.cuda.max_memory_allocated())} of the GPU's"
    progress.say(f"{step}: peak memory {held}")


def run_guarded(name: str, work, uses_gpu: bool = True):
    """Call ``work()`` in a process that is set up for computing; ends it with the exit code where that is not 0."""

    def prepared():
        from ..runtime.device import setup_process

        setup_process(uses_gpu)
        work()

    if code := guarded(name, prepared):
        sys.exit(code)
