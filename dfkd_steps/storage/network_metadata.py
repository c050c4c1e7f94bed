"""The metadata of a network's file, read without torch, which takes seconds to import."""

import json

from safetensors import safe_open

from ..runtime.errors import UserError, reading, remedy_for, require_file

KIND = "network"
METADATA = "dfkd"


def read_metadata(path) -> dict:
    """The metadata of a network's file; raises UserError where it is missing, damaged or not a network of dfkd."""
    require_file(path)
    instead = remedy_for(path, "teacher.safetensors", "student.safetensors")
    with reading(path, "is damaged or not a safetensors file", instead), safe_open(path, "np") as file:
        content = json.loads((file.metadata() or {}).get(METADATA, "{}"))
    if not isinstance(content, dict) or content.get("kind") != KIND or not isinstance(content.get("description"), dict):
        raise UserError(f"{path}: is not a network of dfkd; {instead}, or import it as a teacher of kind import")
    return content
