"""The files of an export: export.json, and those that it vouches for in the folder beside it."""

import hashlib
from pathlib import Path

from ..runtime.disk import sha256_of

FOLDER = "export"
NAMES = ("README.md", "student.onnx", "student-int8.onnx", "state_dict.safetensors", "student.pt2")


def paths(export_json) -> list[Path]:
    """The files that an export.json vouches for."""
    return [Path(export_json).parent / FOLDER / name for name in NAMES]


def entry(content: bytes) -> dict:
    """What export.json holds of a file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def faults(export_json, content: dict, digest=sha256_of):
    """What is wrong with the files that the content of an export.json vouches for, a line each.

    digest(path) -> sha256 of a file; by default the file is read.
    """
    files = content.get("files")
    files = files if isinstance(files, dict) else {}  # the checksum of what another program wrote may fit as well
    for path in paths(export_json):
        if not path.is_file():
            yield f"its {FOLDER}/{path.name} is missing; make it again"
        elif {"bytes": path.stat().st_size, "sha256": digest(path)} != files.get(path.name):
            yield f"its {FOLDER}/{path.name} was changed or belongs to another student; make it again"
