"""What an artefact says that made it."""

import functools
import json
from pathlib import Path

from ..runtime.errors import reading
from ..storage import atomic, hdf5, network_metadata

PARTS = ("config", "code", "chosen", "files", "inputs")  # each a mapping, where it is there


def provenance(path) -> dict:
    """Recipe, keys of inputs, versions and machine, as the artefact at ``path`` has them; raises UserError where it is gone or
    damaged."""
    path = Path(path)
    with reading(path):
        record = _record(path)
        if faults := [part for part in PARTS if not isinstance(record.get(part, {}), dict)]:
            raise ValueError(f"provenance: {faults[0]} is no mapping")
        return record


def _record(path) -> dict:
    if path.suffix == ".h5":
        return dict(json.loads(hdf5.structure(path, functools.partial(hdf5.text, name="provenance"))))
    if path.suffix == ".safetensors":
        return dict(network_metadata.read_metadata(path)["provenance"])
    return dict(atomic.read_json(path)["provenance"][0])
