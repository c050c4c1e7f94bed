"""Reading the networks that are kept with a transfer set: a student that its method trained, and generators."""

import functools
import json
import struct

import torch
from safetensors.torch import load as load_bytes

from ..models.classifier import Classifier, build_network, misfit_of
from ..models.generator import Generator, GeneratorDescription
from ..models.names import LIBRARIES, SMP
from ..runtime.errors import reading
from .network_file import GENERATOR, description_of, parted, seen_in, tuples
from .network_metadata import KIND, METADATA


def from_bytes(content: bytes, where, device="cpu", trusted: str = ""):
    """The network of ``network_file.to_bytes``, in eval mode and without gradients; ``where`` it lies, for the error.

    A generator, one of our architectures or of a library's: a set is passed on, and must not name code that is then called.
    But the factory of ``trusted``, the name of a network, as a config has it.
    """
    with reading(where, "is not a network of dfkd"):
        (length,) = struct.unpack_from("<Q", content)
        head = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][METADATA])
        weights, snapshots = parted(load_bytes(content), where)
        description = None
        if head["kind"] == GENERATOR:
            build = functools.partial(Generator, GeneratorDescription(**tuples(head["description"])))
        else:
            description = description_of(head["description"])
            if head["kind"] != KIND or (description.builder not in ("arch", *LIBRARIES, SMP) and description.spelled != trusted):
                raise ValueError("neither a generator, nor a built-in architecture, nor the network that the config names")
            build = functools.partial(build_network, description)
        if misfit := misfit_of(build, weights):
            raise ValueError(misfit)
        inner = build()
        inner.load_state_dict(weights)
        network = inner
        if description:
            network = Classifier(inner, description)
            network.seen, network.snapshots = seen_in(head), snapshots
    return network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)  # pyright: ignore[reportCallIssue]
