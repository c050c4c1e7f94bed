"""Every ONNX operator in the cases that the standard itself gives for it (package onnx, ``backend.test.case``)."""

import collections
import importlib
import pkgutil
import re
import warnings

import numpy as np
import pytest
import torch

from dfkd_steps.models import onnx_graph, onnx_operators, onnx_reader
from dfkd_steps.runtime.errors import UserError

onnx = pytest.importorskip("onnx")
OPERATORS = sorted({*onnx_operators.OPERATORS, *onnx_graph.LAYERS} - {"Linear"})  # which is of ours
# Files of the standard's cases that are not called as the operator is; some had other names in earlier versions.
FILES = {"BatchNormalization": "batchnorm", "InstanceNormalization": "instancenorm", "Range": "rangeop"}
# What a classifier does not need: other types than those of images, weights and shapes, other dimensions than those of images,
# training, empty tensors. Images that are made smaller, and windows of nothing but padding, onnxruntime's comparison refuses.
LEFT_OUT = {
    "": r"(string|STRING|uint\d|FLOAT8|FLOAT4|INT\d|float16|double|_expanded|to_FLOAT16|BFLOAT)",
    "AveragePool": "_[13]d_|starts_on_pad$", "BatchNormalization": "training", "ConvTranspose": "_[13]d", "Dropout": "training",
    "MaxPool": "_[13]d_", "Range": "bfloat16", "ReduceMax": "empty_set", "ReduceMin": "empty_set",
    "Resize": "downsample|upsample_sizes_nearest$",
}  # fmt: skip


def cases(operator: str) -> list:
    """Those of the standard that are this node alone."""
    standard = importlib.import_module("onnx.backend.test.case.node")
    files = {name.replace("_", ""): name for _, name, _ in pkgutil.iter_modules(standard.__path__)}
    name = files.get(operator.lower()) or files.get(FILES.get(operator))
    if not name:
        pytest.skip(f"onnx {onnx.__version__} has no case of {operator}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(f"{standard.__name__}.{name}")
    left_out = re.compile("|".join(filter(None, [LEFT_OUT[""], LEFT_OUT.get(operator)])))
    alone = [case for case in standard._NodeTestCases if [node.op_type for node in case.model.graph.node] == [operator]]
    tensors = (np.ndarray, np.generic, onnx.TensorProto)
    return [
        case for case in alone if not left_out.search(case.name) and all(isinstance(one, tensors) for one in case.data_sets[0][0])
    ]


def tensor_of(given):
    """An array of a case as the protocol buffer that files hold."""
    return given if isinstance(given, onnx.TensorProto) else onnx.numpy_helper.from_array(np.asarray(given))


def result_of(case, given) -> torch.Tensor:
    """What the network of the node gives for its first input; the others are its constants."""
    node = case.model.graph.node[0]
    reader = onnx_reader.Reader.__new__(onnx_reader.Reader)  # a node alone is no classifier
    reader.path, reader.kind, reader.to_array, reader.nodes = "x.onnx", "a classifier", onnx.numpy_helper.to_array, []
    reader.half, reader.readers = False, collections.Counter(node.input)
    reader.opset = max(entry.version for entry in case.model.opset_import if entry.domain == "")
    (first, *rest), (images, *constants) = [name for name in node.input if name], map(reader.tensor, map(tensor_of, given))
    reader.constants = dict(zip(rest, constants))
    reader.source, reader.output = first, node.output[0]
    reader._read(node)
    graph, weights = reader.result()
    net = onnx_graph.Graph(graph).eval()
    net.load_state_dict(weights)
    with torch.no_grad():
        return net(images)


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_are_as_the_standard_has_them(operator):
    compared = 0
    for case in cases(operator):
        for given, expected in case.data_sets:
            try:
                result = result_of(case, given)
            except UserError as error:
                if "which is not supported; give the network's weights" not in str(error):
                    raise
                continue
            first = torch.from_numpy(onnx.numpy_helper.to_array(tensor_of(expected[0])).copy())
            assert result.shape == first.shape, case.name
            assert torch.allclose(result.double(), first.double(), rtol=1e-4, equal_nan=True), case.name
            compared += 1
    assert compared, "no case is left"
