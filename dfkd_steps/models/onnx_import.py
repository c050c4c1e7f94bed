"""An ONNX classifier as a network of torch (``onnx_graph``), compared with onnxruntime on random images.

Written here because neither converter reads what people have: onnx2torch 1.5.15 knows no opset above 18, which is what PyTorch
exports, and onnx2pytorch 0.6 takes weights from initialisers alone, not from Constant or Identity nodes.
"""

import dataclasses
import json
from pathlib import Path

import torch

from ..runtime import progress
from ..runtime.errors import UserError, one_line, reading
from . import onnx_comparison, onnx_graph, onnx_reader
from .checkpoint_file import require_sha256
from .classifier import Whole
from .library import as_teacher

MAX_BYTES = (1 << 31) - 1  # of a protocol buffer
UNREADABLE = ("is not a readable ONNX file", "export it again")


def read(path: Path, sha256: str, description, keep=()):
    """The network in an ONNX file; raises UserError where it is no classifier for such images.

    keep: the classes that the network is cut to, none for all.
    """
    model = _load(path, sha256)
    with reading(path, *UNREADABLE):
        reader = onnx_reader.Reader(path, model, description)
        before, described = _built(reader, description)
    have = onnx_comparison.compare(reader, before, model)
    if keep:
        reader.cut(keep, have)
    net, description = _built(reader, description)
    whole = None
    if keep:
        state = net.state_dict()
        differ = {name: value for name, value in before.state_dict().items()
                  if name not in state or not torch.equal(value, state[name])}  # fmt: skip
        whole = Whole(have, tuple(keep), differ, described.arguments)
    norms = sum(isinstance(layer, onnx_graph.Norm) for layer in net.layers.values())
    folded = "" if norms else " (exporters fold it into the convolutions, unless told not to)"
    progress.say(f"{path}: {len(reader.nodes)} nodes, {norms} BatchNorm layers{folded}")
    return as_teacher(net, description, whole)


def _built(reader, description):
    graph, weights = reader.result()
    description = dataclasses.replace(description, arguments={"graph": json.dumps(graph)})
    net = onnx_graph.build(description)
    net.load_state_dict(weights)
    return net.eval(), description


def _load(path, sha256):
    try:
        import onnx
    except ImportError:
        raise UserError(f"{path}: the package onnx, which reads it, is not installed; run pip install 'dfkd[onnx]'") from None
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; set checkpoint: to a file (relative to the working directory)")
    require_sha256(path, sha256)
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: is larger than an ONNX file without external data can be; give a smaller network")
    with reading(path, *UNREADABLE):
        model = onnx.load_model_from_string(path.read_bytes())
    tensors = [*model.graph.initializer, *(attr.t for node in model.graph.node for attr in node.attribute if attr.HasField("t"))]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data for tensor in tensors):
        raise UserError(
            f"{path}: stores weights in another file, which is not read; save it as one file: onnx.save_model(model, FILE)"
        )
    if foreign := {node.domain for node in model.graph.node} - {"", "ai.onnx"} or {function.name for function in model.functions}:
        raise UserError(
            f"{path}: uses operators outside the ONNX standard ({one_line(min(foreign), 60)}); export it without them"
        )
    if not model.graph.node:
        raise UserError(f"{path}: is not an ONNX network, because it contains no graph; export it again")
    return model
