"""A classifier as an ONNX file with its normalisation inside, quantised to int8, and run again by onnxruntime.

Images ``input`` (N,C,H,W) float32 in [0,1] -> ``logits`` (N,K). Class names, image shape and normalisation stand in the file's
metadata. Needs the packages of the extra ``export``.
"""

import importlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from ..runtime import passes
from ..runtime.errors import UserError, let_through, one_line, require_file
from ..runtime.threads import thread_count

OPSET = 18
INPUT, OUTPUT = "input", "logits"
BATCH = 64  # images of a pass of onnxruntime at most
LARGEST = 2.0  # value of an image; what is larger was given as 0 to 255


def require(*packages: str):
    """Raise UserError unless these packages of the extra are installed; found before any work is done."""
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"export: needs the package {name} ({one_line(error, 80)}); run pip install -e '.[export]'") from None


def program_of(classifier) -> torch.export.ExportedProgram:
    """The classifier on the CPU as a program of torch.export, any number of images at once.

    Raises UserError for a network that torch.export cannot trace.
    """
    images = torch.rand(2, *classifier.description.image_shape, generator=torch.Generator().manual_seed(0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(classifier, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # whatever the network's own code raises while it is traced
        let_through(error)
        name = classifier.description.name
        raise UserError(f"export: torch.export cannot trace {name} ({one_line(error, 160)}); use another student") from None


def program_bytes(program) -> bytes:
    """A program as a .pt2 file."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def onnx_bytes(program, description) -> bytes:
    """A program as an ONNX file."""
    require("onnx", "onnxscript")
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "student.onnx")
        torch.onnx.export(program, (), path, dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT],
                          external_data=False, verbose=False)  # fmt: skip
        return _described(path, description)


def int8_bytes(content: bytes, images: Iterable[np.ndarray], description) -> bytes:
    """An ONNX file with weights and activations in int8 (QDQ form), whose ranges are those on images, parts (n,C,H,W) in [0,1].

    onnxruntime's static quantisation: a scale for each output channel of weights, smallest and largest value of activations.
    """
    require("onnx", "onnxruntime")
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = ({INPUT: np.ascontiguousarray(part, np.float32)} for part in images)

        def get_next(self):
            return next(self.batches, None)

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # a page of advice otherwise
    try:
        with tempfile.TemporaryDirectory() as folder:
            plain, ready, quantised = (Path(folder, name) for name in ("plain.onnx", "ready.onnx", "int8.onnx"))
            plain.write_bytes(content)
            quantization.quant_pre_process(plain, ready, skip_symbolic_shape=True)
            quantization.quantize_static(
                ready, quantised, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
                activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            )  # fmt: skip
            return _described(quantised, description)
    finally:
        logging.getLogger().setLevel(level)


def _described(path, description) -> bytes:
    """An ONNX file with what its user has to know in its metadata."""
    import onnx

    model = onnx.load(path)
    metadata = {
        "classes": json.dumps(list(description.classes), ensure_ascii=False),
        "image_shape": json.dumps(list(description.image_shape)),
        "input_range": "[0, 1]",
        "normalisation": "inside",
    }
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


class OnnxClassifier:
    """An ONNX file as a function of images, on the CPU; images (N,C,H,W) in [0,1] -> logits (N,K), both torch tensors.

    ``classes`` and ``image_shape`` by its metadata, None where that does not state them as ``_described`` does. Raises UserError
    where the file is missing or not ONNX.
    """

    def __init__(self, source):
        require("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = thread_count(), 3
        if not isinstance(source, bytes):
            require_file(source)  # a pipe would be waited for
        try:
            content = source if isinstance(source, bytes) else Path(source).read_bytes()
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except OSError as error:
            let_through(error)
            raise UserError(f"{source}: {error.strerror}; give a readable file") from None
        except Exception as error:  # onnxruntime's own classes, one for each of its codes
            let_through(error)
            raise UserError(f"{source}: onnxruntime cannot load it ({one_line(error, 160)}); give an ONNX file") from None
        metadata = self.session.get_modelmeta().custom_metadata_map
        # A file of another program may have metadata of these names too, for other things.
        self.classes = _listed(metadata.get("classes"), lambda name: isinstance(name, str))
        self.image_shape = _listed(metadata.get("image_shape"), lambda size: type(size) is int and size > 0, 3)
        self.input = self.session.get_inputs()[0].name
        gives = self.session.get_outputs()[0].shape
        self.pixel_logits = gives[1] if len(gives) == 4 and isinstance(gives[1], int) else 0

    def __call__(self, images) -> torch.Tensor:
        if not images.is_floating_point() or (len(images) and images.max() > LARGEST):
            raise UserError("images: values are not in [0, 1]; divide values of 0 to 255 by 255: images.float() / 255")
        parts = _batches(images.cpu().numpy(), self.pixel_logits)
        return torch.from_numpy(np.concatenate([self.session.run(None, {self.input: part})[0] for part in parts]))


def _listed(text: str | None, fits, length: int | None = None) -> tuple | None:
    """A JSON list of values that fit, of this length if there is one given, as a tuple; None where the text is none."""
    try:
        values = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list) or not values or not all(map(fits, values)) or len(values) != (length or len(values)):
        return None
    return tuple(values)


def at_once(image_shape, pixel_logits: int = 0) -> int:
    """Images (C,H,W) of a pass of onnxruntime: BATCH, or fewer where they are large or the logits of each pixel are many."""
    return min(BATCH, passes.passed(image_shape, pixel_logits))


def _batches(images: np.ndarray, pixel_logits: int = 0):
    rows = at_once(images.shape[1:], pixel_logits)
    return [np.ascontiguousarray(images[start : start + rows], np.float32) for start in range(0, len(images), rows)]
