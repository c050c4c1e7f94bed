"""Artefacts appear whole or not at all, carry the key they were made under, and resume.

A step works in ``.NAME.partial`` beside its output, under a lock, and renames it when whole. Both drivers delete the
declared outputs of a failed job and know nothing of the hidden file.
"""

import contextlib
import functools
import json
import os
import zlib
from pathlib import Path

from safetensors import safe_open

from ..runtime.errors import Changed, UserError, reading, remedy_for, require_file
from ..runtime.locks import locked
from . import hdf5

# The files that carry a key, by their suffix.
NAMES = {
    ".h5": ("dataset.h5", "transfer_set.h5"),
    ".safetensors": ("teacher.safetensors", "student.safetensors"),
    ".json": ("metrics.json", "export.json"),
}


def key_of(path) -> str:
    """The key that an artefact carries; raises UserError where the file is missing, unreadable, damaged or foreign."""
    path = Path(path)
    require_file(path)
    instead = remedy_for(path, *NAMES.get(path.suffix, NAMES[".json"]))
    with reading(path, f"is damaged or not a {path.suffix} file of dfkd", instead):
        if path.suffix == ".h5":
            if hdf5.stored(path) is None:
                raise ValueError("no checksum at its end")
            key = hdf5.structure(path, functools.partial(hdf5.text, name="key"))
        elif path.suffix == ".safetensors":
            key = _metadata(path).get("key")
        else:
            key = read_json(path).get("key")
    if not isinstance(key, str):
        raise UserError(f"{path}: is not an artefact of dfkd (no key); {instead}")
    return key


def seal_of(path) -> str | None:
    """The checksum that a set, a data set or a network carries, as text; None where there is no file or it carries none."""
    with contextlib.suppress(Exception):  # of a damaged file too
        if Path(path).suffix == ".h5":
            return (hdf5.stored(path) or b"").hex() or None
        return _metadata(path).get("crc32")
    return None


def _metadata(path) -> dict:
    """What a network's file says of itself."""
    with safe_open(path, "np") as file:
        return json.loads((file.metadata() or {}).get("dfkd", "{}"))


def partial_of(out) -> Path:
    """The hidden file that a step works in."""
    out = Path(out)
    return out.with_name(f".{out.name}.partial")


@contextlib.contextmanager
def exclusive(out, key: str):
    """Hold the lock on ``out`` and yield the hidden file to work in, or None if ``out`` is there and whole already.

    A second copy of the same job (the orphan of a killed scheduler, say) waits here for the first, and then finds the
    artefact made. The hidden files stay if the step fails: the step itself compares the key stored in them and resumes. But
    not where it fails by ``Changed``.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.with_name(f".{out.name}.partial.lock"), f"waiting for another process that is working on {out.parent}"):
        try:
            yield None if _is_made(out, key) else partial_of(out)
        except Changed:
            _clear(out)
            raise
        _clear(out)


def _clear(out):
    """Delete the hidden files: working file, checkpoints, counters and what a kill left between writing and renaming."""
    for path in out.parent.iterdir():
        if path.name.startswith(f".{out.name}.") and path.suffix != ".lock":
            path.unlink()


def _is_made(out, key) -> bool:
    try:
        return key_of(out) == key
    except UserError:
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


def write(out, content: bytes):
    """Write a file whole."""
    beside = Path(out).with_name(f".{Path(out).name}.whole")
    try:
        beside.write_bytes(content)
    except OSError:  # on a full disk it would hold the room that the error line needs
        beside.unlink(missing_ok=True)
        raise
    commit(beside, out)


def write_json(out, content: dict):
    """Write a JSON artefact whole, with the checksum of its content."""
    content = content | {"crc32": _checksum(content)}
    write(out, (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def read_json(path) -> dict:
    """The content of a JSON artefact; raises UserError where it is missing, unreadable, damaged or changed."""
    require_file(path)
    instead = remedy_for(path, *NAMES[".json"])
    with reading(path, "is damaged or not a .json file of dfkd", instead):
        content = json.loads(Path(path).read_text("utf-8"))
        if not isinstance(content, dict) or "crc32" not in content:
            raise UserError(f"{path}: has no checksum, so it was not made by dfkd; {instead}")
        if content.pop("crc32") != _checksum(content):
            raise UserError(f"{path}: is damaged or was changed (its checksum does not match); delete it and make it again")
        return content


def _checksum(content: dict) -> str:
    """CRC-32 of the canonical JSON."""
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
