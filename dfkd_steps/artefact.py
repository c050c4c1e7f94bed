"""Artefacts appear whole or not at all, carry the key they were made under, and resume.

A step works in ``.NAME.partial`` beside its output, under a lock, and renames it when whole. Both drivers delete the
declared outputs of a failed job and know nothing of the hidden file.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import json
import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import h5py
from safetensors import SafetensorError, safe_open

from . import config, hdf5, pipeline, spec
from .errors import DAMAGE, UserError, complain, of_system, one_line

LIBRARIES = ("torch", "torchvision", "numpy", "h5py", "safetensors")


@dataclass(frozen=True)
class Job:
    """What one call of a step is to do: the file to make, its inputs, its own typed config, its key."""

    step: str
    out: Path
    inputs: list[Path]
    config: object
    key: str
    input_keys: dict[str, str]

    def provenance(self, device) -> dict:
        """What made the artefact; no dates, host names, durations or absolute paths, so that bytes repeat."""
        from . import runtime  # imports torch, which takes seconds: not for the drivers, that only ask for keys

        return {
            "step": self.step,
            "config": dataclasses.asdict(self.config) if self.config is not None else {},
            "inputs": self.input_keys,
            "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
            "device": runtime.describe(device),
        }


def job(step: str, argv=None) -> Job:
    """The job of a command line ``python -m dfkd_steps.<step> OUT IN...``; checks paths, config and inputs."""
    made_by = sys.modules.get(f"dfkd_steps.{step}") or sys.modules["__main__"]
    template = pipeline.STEPS[step].template
    parser = argparse.ArgumentParser(prog=f"python -m dfkd_steps.{step}", description=(made_by.__doc__ or "").strip(),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    # @FILE stands for the arguments in it, one a line: so dvc.yaml gives inputs that only some transfer sets have.
    parser.fromfile_prefix_chars = "@"
    parser.add_argument("out", metavar="OUT", help=f"the file to make: {template}")
    parser.add_argument("inputs", metavar="IN", nargs="*", help="the artefacts it is made from, in the order of the rule")
    arguments = parser.parse_args(argv)
    out, given = Path(arguments.out), [Path(one) for one in arguments.inputs]
    if pipeline.step_of(out) != step:
        raise UserError(
            f"{spec.shown(out)}: is made by the step {pipeline.step_of(out)}, not {step}; give a path like {template}"
        )
    specs = spec.of_path(out)
    for name, text in specs.items():
        spec.parse(name, text)
    needed = pipeline.inputs_of(out)
    if given != needed:
        wanted = " ".join(map(str, needed)) or "no inputs"
        raise UserError(f"{out}: inputs are {' '.join(map(spec.shown, given)) or 'none'}; give {wanted}")
    group = pipeline.STEPS[step].group
    typed = config.load(group, specs[group]) if group else None
    for one in needed:
        if one.suffix == ".h5":  # a network's own checksum is compared where its weights are read
            hdf5.check(one)
    keys = {"/".join(one.parts[len(spec.root_of(one).parts) :]): key_of(one) for one in needed}
    return Job(step, out, needed, typed, pipeline.make_key(step, specs, keys.values()), keys)


def key_of(path) -> str:
    """The key that an artefact carries; raises UserError where the file is missing, damaged or foreign."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it first (snakemake {path})")
    try:
        if path.suffix == ".h5":
            if hdf5.stored(path) is None:
                raise ValueError("no checksum at its end")
            with h5py.File(path, "r") as file:
                key = file.attrs.get("key")
        elif path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                key = json.loads((file.metadata() or {}).get("dfkd", "{}")).get("key")
        else:
            key = json.loads(path.read_text("utf-8")).get("key")
    except (*DAMAGE, SafetensorError) as error:
        why = one_line(error, 120)
        raise UserError(f"{path}: is damaged or no {path.suffix} file of dfkd ({why}); delete it and make it again") from None
    if not isinstance(key, str):
        raise UserError(f"{path}: carries no key, so no step of dfkd made it; delete it and make it again")
    return key


def partial_of(out) -> Path:
    """The hidden file that a step works in."""
    out = Path(out)
    return out.with_name(f".{out.name}.partial")


@contextlib.contextmanager
def working(out, key: str):
    """Hold the lock on ``out`` and yield the hidden file to work in, or None if ``out`` is there and whole already.

    A second copy of the same job (the orphan of a killed scheduler, say) waits here for the first, and then finds the
    artefact made. The hidden file stays if the step fails: the step itself compares the key stored in it and resumes.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _locked(out.with_name(f".{out.name}.partial.lock")):
        yield None if _is_made(out, key) else partial_of(out)
        partial_of(out).unlink(missing_ok=True)


def _is_made(out, key) -> bool:
    try:
        return key_of(out) == key
    except UserError:
        return False


@contextlib.contextmanager
def _locked(path):
    while True:
        with open(path, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process that works on {path.parent}", file=sys.stderr, flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(lock, path):
                continue  # the holder before us removed the file it held: ours is a lock on nothing
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(file, path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def publish(written, out):
    """Make a finished file appear as ``out``, all at once and safely on disk."""
    with open(written, "rb") as file:
        os.fsync(file.fileno())
    os.replace(written, out)
    directory = os.open(Path(out).parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_json(out, content: dict):
    """Write a JSON artefact whole."""
    beside = Path(out).with_name(f".{Path(out).name}.whole")
    beside.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
    publish(beside, out)


def main(step: str, run):
    """Entry of a step: ``run(job)`` inside; bad input is one line and exit code 2."""
    guarded(step, lambda: run(job(step)))


def guarded(name: str, work):
    """Call ``work()`` in a process that is set up for computing; bad input is one line and exit code 2."""
    from . import runtime

    try:
        runtime.setup()
        work()
    except UserError as error:
        sys.exit(complain(error))
    except (OSError, RuntimeError, SafetensorError) as error:
        if not (why := of_system(error)):
            raise
        where = getattr(error, "filename", None) or (sys.argv[1] if len(sys.argv) > 1 else name)
        sys.exit(complain(f"{where}: {why}; make room or mend the permissions, then run again"))
