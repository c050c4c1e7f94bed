"""The nodes of an ONNX graph, read into the form of ``onnx_graph``."""

from collections import Counter

import numpy as np
import torch

from ..runtime import progress
from ..runtime.errors import UserError, let_through, one_line
from . import onnx_layers
from .onnx_operators import OPERATORS, unknown

QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


def ends_in_one_pixel(output) -> bool:
    """Has the output of a graph the shape N,K,1,1, as that of a classifier whose last layer is a convolution?"""
    sizes = [dim.dim_value for dim in output.type.tensor_type.shape.dim]
    return len(sizes) == 4 and sizes[2:] == [1, 1]


class Reader:
    """A graph as ``onnx_graph`` has it, and its weights by the names of the network's state.

    ``constants``: stored and computed tensors by name. ``half``: whether some are stored in 16 bits; here all are fp32.
    ``normalised``: the softmax at the end, which was removed. Raises UserError for a graph that is no classifier (or, of a dense
    description, no segmentation network) for such images.
    """

    def __init__(self, path, model, description):
        from onnx import numpy_helper

        self.path, self.description, self.to_array = path, description, numpy_helper.to_array
        self.kind = "a segmentation network" if description.dense else "a classifier"
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
        self.half = False
        self.constants = {stored.name: self.tensor(stored) for stored in model.graph.initializer}
        self.source, self.channels_last, self.batch = self._input(model)
        if len(model.graph.output) != 1:
            named = ", ".join(output.name for output in model.graph.output[:4])
            raise self.error(
                f"has {len(model.graph.output)} outputs ({named}), but {self.kind} has one, the logits (a detector "
                "has more); export it with one output"
            )
        self.readers = Counter(name for node in model.graph.node for name in node.input)
        self.readers.update(output.name for output in model.graph.output)
        self.nodes, self.normalised = [], None  # node: [operator, inputs, outputs, attributes, weights]
        for node in model.graph.node:
            try:
                self._read(node)
            except UserError:
                raise
            except Exception as error:  # whatever a malformed node makes its reader raise
                let_through(error)
                raise self.error(f"node {node.op_type} {one_line(node.name, 40)}: {one_line(error)}; export it again") from None
        self.output = self._without_softmax(model.graph.output[0].name)
        if self.channels_last:
            self.nodes.insert(0, ["Transpose", ["images"], [self.source], {"perm": [0, 2, 3, 1]}, {}])
            self.source = "images"
        self.maps_last = self._classes_last(model.graph.output[0])
        if self.maps_last:
            self.nodes.append(["Transpose", [self.output], ["maps"], {"perm": [0, 3, 1, 2]}, {}])
            self.output = "maps"
        self.one_pixel = not description.dense and ends_in_one_pixel(model.graph.output[0])
        if self.one_pixel:
            progress.say(f"{self.path}: gives its logits as N,K,1,1; they are flattened")
            self.nodes.append(["Flatten", [self.output], ["flat"], {"axis": 1}, {}])
            self.output = "flat"
        self._free_batch()

    def error(self, fault: str) -> UserError:
        """What is wrong with the file, in one line that names it."""
        return UserError(f"{self.path}: {one_line(fault, 300)}")

    def tensor(self, stored) -> torch.Tensor:
        """A stored tensor as fp32, int64 or bool."""
        self.half |= stored.data_type in (10, 16)  # FLOAT16, BFLOAT16
        array = np.asarray(self.to_array(stored))
        kind = np.int64 if array.dtype.kind in "iu" else array.dtype if array.dtype.kind == "b" else np.float32
        return torch.from_numpy(np.array(array, kind))

    def _input(self, model):
        """Name of the input, whether it is NHWC, and its batch size if that is fixed; UserError where images do not fit."""
        inputs = [value for value in model.graph.input if value.name not in self.constants]
        if len(inputs) != 1:
            raise self.error(f"has {len(inputs)} inputs, but {self.kind} of images has one; give such a network")
        kind, dims = inputs[0].type.tensor_type.elem_type, inputs[0].type.tensor_type.shape.dim
        if kind not in (1, 10, 11):
            raise self.error(
                "does not accept floating-point input; export it with float32 inputs, without the step that decodes images"
            )
        sizes = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims]
        channels, height, width = self.description.image_shape
        if len(sizes) != 4:
            raise self.error(
                f"takes inputs of {len(sizes)} dimensions, but images have four (N,C,H,W); give {self.kind} of images"
            )
        last = sizes[1] != channels and sizes[3] == channels and (sizes[1] is not None or width != channels)
        if last:
            progress.say(f"{self.path}: takes images as N,H,W,C; its inputs are transposed, and all methods can be used")
        for said, needed in zip([sizes[3], *sizes[1:3]] if last else sizes[1:], (channels, height, width)):
            if said not in (needed, None):
                takes = "x".join("?" if size is None else str(size) for size in sizes[1:])
                raise self.error(
                    f"takes images of {takes}, not {channels}x{height}x{width}; set the data set's channels and size"
                )
        return inputs[0].name, last, sizes[0]

    def _read(self, node):
        inputs, outputs = list(node.input), list(node.output)
        attributes = {attribute.name: self._attribute(node, attribute) for attribute in node.attribute}
        if node.op_type == "Constant":
            value = next(iter(attributes.values()))
            value = value if isinstance(value, torch.Tensor) else torch.tensor(value)
            self.constants[outputs[0]] = value.float() if value.is_floating_point() else value
            return
        if node.op_type in QUANTISED:
            raise self.error(f"is quantised ({node.op_type}); give the network in floating point that it was made from")
        if node.op_type == "ConstantOfShape" and isinstance(attributes.get("value"), torch.Tensor):
            attributes["value"] = attributes["value"].tolist()
        known = [self.constants.get(name) for name in inputs]
        if self._layer(node.op_type, inputs, outputs, known, attributes):
            return
        attributes["opset"], attributes["outputs"] = self.opset, len(outputs)
        if (form := unknown(node.op_type, attributes)) is not None:
            raise self.error(
                f"has the operator {' '.join(filter(None, [node.op_type, form]))}, which is not supported; give the network's "
                "weights and a factory instead of the ONNX file, or export it without this operator"
            )
        of_constant = node.op_type == "CastLike" and known[0] is not None and known[0].is_floating_point()
        if of_constant or all(value is not None or not name for value, name in zip(known, inputs)):
            result = known[0] if of_constant else OPERATORS[node.op_type](known, attributes)
            self.constants.update(zip(outputs, result if isinstance(result, (tuple, list)) else [result]))
        else:
            self.nodes.append([node.op_type, inputs, outputs, attributes, {}])

    def _layer(self, operator, inputs, outputs, known, attributes) -> bool:
        """Whether the node is a layer with weights, or the bias of the one before it; if so, it is read."""
        if operator in onnx_layers.READERS:
            try:
                layer = onnx_layers.READERS[operator](known, attributes)
            except onnx_layers.UnknownLayer as error:
                raise self.error(str(error)) from None
            if layer is None:
                return False
            of_graph, described, weights = layer
            self.nodes.append([of_graph, inputs[:1], outputs[:1], {"layer": described}, weights])
            return True
        before = self.nodes[-1] if self.nodes else None
        bias = onnx_layers.bias_of(before, inputs, known) if operator == "Add" else None
        if bias is None or self.readers[before[2][0]] > 1:  # who else reads it reads it without the bias
            return False
        before[4]["bias"], before[3]["layer"]["how"]["bias"] = bias, True
        before[2] = outputs[:1]
        return True

    def _attribute(self, node, attribute):
        from onnx import AttributeProto, helper

        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            raise self.error(f"has the operator {node.op_type}, which branches; export {self.kind} without branches")
        value = helper.get_attribute_value(attribute)
        if attribute.type == AttributeProto.TENSOR:
            return self.tensor(value)
        return value.decode() if isinstance(value, bytes) else list(value) if attribute.type >= AttributeProto.FLOATS else value

    # ------------------------------------------------------------------------------------------ the end, the batch, the classes
    def _producer(self, name):
        return next((node for node in self.nodes if name in node[2]), None)

    def _without_softmax(self, output: str) -> str:
        """What goes into the softmax at the end, if there is one: the logits."""
        node = self._producer(output)
        while node and node[0] in ("Identity", "Cast", "Dropout"):
            node = self._producer(node[1][0])
        if node and node[0] == "Sigmoid":
            where = "image" if not self.description.dense else "pixel, or two classes by one output,"
            raise self.error(
                f"ends in a sigmoid, so it predicts several labels per {where} instead of a logit for each class; give "
                f"{self.kind} with these"
            )
        if not node or node[0] not in ("Softmax", "LogSoftmax"):
            return output
        self.normalised = node
        progress.say(f"{self.path}: ends in a {node[0].lower()}, which is removed, because methods work on logits")
        return node[1][0]

    def _classes_last(self, output) -> bool:
        """Does a segmentation network give N,H,W,K?"""
        sizes = [dim.dim_value for dim in output.type.tensor_type.shape.dim]
        classes = self.description.num_classes
        last = self.description.dense and len(sizes) == 4 and sizes[3] == classes != sizes[1]
        if last:
            progress.say(f"{self.path}: gives maps as N,H,W,K; they are transposed")
        return last

    def _free_batch(self):
        """Reshapes to a fixed number of images take any number."""
        if self.batch is None:
            return
        progress.say(f"{self.path}: was exported for batches of {self.batch}; its reshapes are adapted to any batch size")
        for node in self.nodes:
            shape = self.constants.get(node[1][1]) if node[0] == "Reshape" and len(node[1]) > 1 else None
            if shape is not None and len(shape) and shape[0] == self.batch:
                # 0 is the input's own size there; -1, where nothing else is, also serves where images were put together.
                free = 0 if (shape[1:] == -1).any() else -1
                node[1] = [node[1][0], name := f"{node[2][0]} shape"]
                self.constants[name] = torch.cat([torch.tensor([free]), shape[1:]])

    def cut(self, keep, have: int):
        """The rows of the classes that count alone, in the last layer, or of its output where that is none; of ``have`` classes.

        Raises UserError for a class that there is not.
        """
        if max(keep) >= have:
            raise self.error(f"has {have} classes, 0 to {have - 1}, but keep has {max(keep)}; correct keep")
        node = self._producer(self.output)
        if node and node[0] == "Linear":
            node[4] = {name: value[list(keep)] for name, value in node[4].items()}
            node[3]["layer"]["sizes"][1] = len(keep)
            return
        self.constants["keep"] = torch.tensor(list(keep))
        self.nodes.append(["Gather", [self.output, "keep"], ["kept"], {"axis": 1}, {}])
        self.output = "kept"

    def result(self) -> tuple[dict, dict[str, torch.Tensor]]:
        """The graph, of nodes that the output depends on, and the weights."""
        needed, kept = {self.output}, []
        for node in reversed(self.nodes):
            if needed & set(node[2]):
                needed |= set(node[1])
                kept.append(node)
        if self.source not in needed:
            raise self.error("its output does not depend on its input; export it again")
        self.nodes = kept[::-1]
        read = sorted(name for name in needed if name in self.constants)
        floats = [name for name in read if self.constants[name].is_floating_point()]
        weights = {f"layers.{number}.{name}": value for number, node in enumerate(self.nodes) for name, value in node[4].items()}
        weights |= {f"tensor{number}": self.constants[name] for number, name in enumerate(floats)}
        graph = {
            "input": self.source,
            "output": self.output,
            "opset": self.opset,
            "tensors": {name: list(self.constants[name].shape) for name in floats},
            "integers": {name: self.constants[name].tolist() for name in read if name not in floats},
            "nodes": [node[:4] for node in self.nodes],
        }
        return graph, weights
