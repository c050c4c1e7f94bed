"""What an artefact says that made it."""

import functools
import json
from pathlib import Path

from ..runtime.errors import reading
from ..storage import atomic, hdf5, network_metadata


def provenance(path) -> dict:
    """Recipe, keys of inputs, versions and machine, as the artefact at ``path`` has them; raises UserError where it is gone or
    damaged."""
    path = Path(path)
    with reading(path):
        if path.suffix == ".h5":
            return dict(json.loads(hdf5.structure(path, functools.partial(hdf5.text, name="provenance"))))
        if path.suffix == ".safetensors":
            return dict(network_metadata.read_metadata(path)["provenance"])
        return dict(atomic.read_json(path)["provenance"][0])
