"""Artefacts appear whole or not at all, carry the key they were made under, and resume.

A step works in ``.NAME.partial`` beside its output, under a lock, and renames it when whole. Both drivers delete the
declared outputs of a failed job and know nothing of the hidden file.
"""

import contextlib
import fcntl
import json
import os
import sys
from pathlib import Path

import h5py
from safetensors import SafetensorError, safe_open

from ..runtime.errors import CORRUPT_FILE_ERRORS, UserError, one_line
from . import hdf5


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
            with safe_open(path, "np") as file:
                key = json.loads((file.metadata() or {}).get("dfkd", "{}")).get("key")
        else:
            key = json.loads(path.read_text("utf-8")).get("key")
    except (*CORRUPT_FILE_ERRORS, SafetensorError) as error:
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
def exclusive(out, key: str):
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


def commit(written, out):
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
    commit(beside, out)
