"""A network that came from an ONNX file, rebuilt from its description: torch layers and a closed set of operators.

The description holds the graph as JSON and the weights lie with it as in any network: neither the ONNX file, nor a library
that reads it, nor foreign code is needed any more. What methods look for in a network is there: convolutions, BatchNorm with
its statistics and linear layers are torch's modules. ``onnx_reader`` writes the graph.

    {"input": name, "output": name, "opset": int,
     "tensors": {name: shape},                    weights that no layer has, of floating point
     "integers": {name: [nested numbers]},        constants that are shapes, axes, indices or masks
     "nodes": [[operator, [inputs], [outputs], {attributes}], ...]}      in the order of use; '' = an input left out

A layer's attributes are the arguments of its module, under the key "layer".
"""

import json
import math

import torch
import torch.nn.functional as F
from torch import nn

from ..runtime.errors import UserError, let_through, one_line
from .onnx_operators import OPERATORS, padding

MAX_NODES, MAX_NUMBERS = 20_000, 1 << 31  # of a graph; of all its weights


class Norm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm of inputs of any number of dimensions."""

    def _check_input_dim(self, input):
        pass


class Convolution(nn.Conv2d):
    """A convolution whose padding may differ from side to side, or go by the size of the input, as ONNX has it."""

    def __init__(self, *sizes, onnx_padding, **how):
        super().__init__(*sizes, **how)
        self.onnx_padding = onnx_padding

    def forward(self, input):
        pads = padding(self.onnx_padding, input.shape[2:], self.kernel_size, self.stride, self.dilation)
        return super().forward(F.pad(input, pads) if any(pads) else input)


LAYERS = {"Conv": Convolution, "BatchNormalization": Norm, "Linear": nn.Linear}


class Graph(nn.Module):
    """The graph of a description; images (N,C,H,W) -> logits (N,K)."""

    def __init__(self, graph: dict):
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleDict()
        for number, (operator, _, _, attributes) in enumerate(graph["nodes"]):
            if operator in LAYERS:
                self.layers[str(number)] = LAYERS[operator](*attributes["layer"]["sizes"], **attributes["layer"]["how"])
        self.places = {name: f"tensor{number}" for number, name in enumerate(graph["tensors"])}
        for name, shape in graph["tensors"].items():
            self.register_buffer(self.places[name], torch.zeros(shape))
        self.integers = {name: _stored(value) for name, value in graph["integers"].items()}
        self.last = {name: number for number, node in enumerate(graph["nodes"]) for name in node[1]}

    def forward(self, images):
        values = {"": None, self.graph["input"]: images, **self.integers}
        values |= {name: getattr(self, place) for name, place in self.places.items()}
        for number, (operator, inputs, outputs, attributes) in enumerate(self.graph["nodes"]):
            given = [values[name] for name in inputs]
            if operator in LAYERS:
                result = self.layers[str(number)](given[0])
            else:
                result = OPERATORS[operator](given, attributes)
            values.update(zip(outputs, result if isinstance(result, (tuple, list)) else [result]))
            for name in inputs:  # what nobody reads any more is let go
                if name and self.last[name] == number and name != self.graph["output"]:
                    values.pop(name, None)
        return values[self.graph["output"]]


def _stored(value) -> torch.Tensor:
    """A constant that is no weight, as int64, or as bool where it is a mask."""
    tensor = torch.tensor(value)
    return tensor if tensor.dtype == torch.bool else tensor.long()


def build(description) -> Graph:
    """The network of a description without its weights; raises UserError where its graph is none of ``onnx_reader``'s."""
    try:
        graph = json.loads(description.arguments["graph"])
        operators = {node[0] for node in graph["nodes"]}
        if foreign := operators - OPERATORS.keys() - LAYERS.keys():
            raise ValueError(f"operator {min(foreign)[:40]!r} is unknown")
        sizes = [math.prod(node[3]["layer"]["sizes"][:2]) for node in graph["nodes"] if node[0] in ("Conv", "Linear")]
        if len(graph["nodes"]) > MAX_NODES or sum(sizes) + sum(map(math.prod, graph["tensors"].values())) > MAX_NUMBERS:
            raise ValueError("is too large for a classifier")
        return Graph(graph)
    except Exception as error:  # whatever a forged graph makes raise
        let_through(error)
        raise UserError(
            f"network {description.name[:40]}: its ONNX graph is damaged ({one_line(error)}); import it again"
        ) from None
