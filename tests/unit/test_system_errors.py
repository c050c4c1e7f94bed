"""What the system lacks (memory, files, a disk that reads) is not blamed on the network, the library or the code that met it."""

import contextlib
import dataclasses
import errno
import sys
import types

import pytest
import torch
from small_net import SHAPE, classifier, wrap
from torch import nn

from dfkd_steps.datasets import readers
from dfkd_steps.models import frozen, fused_convolutions, onnx_file, onnx_graph, pretrained, segmentation_library, tasks, trial
from dfkd_steps.runtime import factory
from dfkd_steps.runtime.commands import explain
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups

NO_MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 268435456 bytes"
OF_ONNXRUNTIME = "[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 268435456"


class Failing(nn.Module):
    def __init__(self, fails):
        super().__init__()
        self.fails = fails

    def forward(self, images):
        self.fails()


def fit(fails, monkeypatch):
    net = Failing(fails)
    trial.require_fit(net, wrap(net).description, "teacher")


def maps(fails, monkeypatch):
    net = Failing(fails)
    trial.require_fit(net, wrap(net, task=tasks.SEGMENTATION).description, "teacher")


def training(fails, monkeypatch):
    trial.require_trainable(wrap(Failing(fails)))


def smp(fails, monkeypatch):
    built = types.SimpleNamespace(create_model=lambda *_, **__: fails())
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", built)
    monkeypatch.setattr(segmentation_library.names, "for_segmentation", lambda library: ())
    described = wrap(nn.Identity(), name="unet.resnet18", task=tasks.SEGMENTATION).description
    segmentation_library.build(dataclasses.replace(described, builder="smp"))


def download(fails, monkeypatch):
    monkeypatch.setattr(pretrained, "create", lambda *_, **__: fails())
    dataset = types.SimpleNamespace(path="d", task=tasks.CLASSIFICATION, keep=(), has_images=True, has_names=True,
                                    image_shape=(3, 64, 64), classes=tuple(map(str, range(1000))))  # fmt: skip
    pretrained.import_library(groups.LibraryTeacher(library="torchvision", name="resnet18", weights="DEFAULT"), dataset)


def of_the_user(fails, monkeypatch):
    factory.call("mine:net", "factory", fails)


def traced(fails, monkeypatch):
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: fails())
    onnx_file.program_of(wrap(nn.Identity()))


def opened(fails, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: fails())
    onnx_file.OnnxClassifier(b"")


def stored_graph(fails, monkeypatch):
    monkeypatch.setattr(onnx_graph, "Graph", lambda graph: fails())
    arguments = {"graph": '{"nodes": [], "tensors": {}}'}
    onnx_graph.build(dataclasses.replace(wrap(nn.Identity()).description, builder="onnx", arguments=arguments))


def node(fails, monkeypatch):
    onnx = pytest.importorskip("onnx")
    from dfkd_steps.models import onnx_reader

    monkeypatch.setattr(onnx_reader.Reader, "_read", lambda self, node: fails())
    values = [onnx.helper.make_tensor_value_info(name, 1, ("n", *SHAPE)) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    onnx_reader.Reader("x.onnx", onnx.helper.make_model(graph), wrap(nn.Identity()).description)


def compared(fails, monkeypatch):
    from dfkd_steps.models import onnx_comparison

    onnx_comparison._tried(fails)


def folded(fails, monkeypatch):
    monkeypatch.setattr(frozen, "fuse", lambda *_, **__: fails())
    frozen.fast_copy(classifier(), "fp32")


def convolution(fails, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", lambda *_: fails(), raising=False)
    fused_convolutions.pointwise.__wrapped__()


def of_torchvision(fails, monkeypatch):
    monkeypatch.setattr(readers, "_torchvision_source", lambda *_, **__: fails())
    readers.read(groups.Torchvision(source="torchvision", name="MNIST", download=False))


def downloaded(fails, monkeypatch):
    def source(config, download):
        if not download:
            raise RuntimeError("shape")
        fails()

    monkeypatch.setattr(readers, "_torchvision_source", source)
    monkeypatch.setattr(readers, "locked", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(readers.Path, "mkdir", lambda *_, **__: None)
    readers.read(groups.Torchvision(source="torchvision", name="MNIST", download=True))


PLACES = [fit, maps, training, smp, download, of_the_user, traced, opened, stored_graph, node, compared, folded, convolution]
PLACES += [of_torchvision, downloaded]
ERRORS = {
    "torch": RuntimeError(NO_MEMORY), "onnxruntime": RuntimeError(OF_ONNXRUNTIME), "Python": MemoryError(),
    "disk": OSError(errno.EIO, "I/O error", "x"), "files": OSError(errno.EMFILE, "Too many open files", "x"),
}  # fmt: skip


def failing(error):
    def fails():
        raise error

    return fails


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("name", ["torch", "files"])
def test_an_error_of_the_system_is_nobodys_fault(place, name, monkeypatch):
    with pytest.raises(type(ERRORS[name])) as caught:
        place(failing(ERRORS[name]), monkeypatch)
    assert caught.value is ERRORS[name]


@pytest.mark.parametrize("place", [place for place in PLACES if place not in (compared, folded, convolution)])
def test_any_other_error_is_that_of_the_network(place, monkeypatch):
    with pytest.raises(UserError, match="shape"):
        place(failing(RuntimeError("shape")), monkeypatch)


def test_a_network_that_cannot_be_folded_is_copied_as_it_is(monkeypatch):
    folded(failing(RuntimeError("shape")), monkeypatch)
    assert convolution(failing(RuntimeError("shape")), monkeypatch) is None


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_said_of_an_error_of_the_system(name, monkeypatch):
    said = {"disk": "x: Input/output error; check the disk", "files": "x: Too many open files; "}.get(name, "memory ran out (")
    error = ERRORS[name]
    with pytest.raises(type(error)):
        fit(failing(error), monkeypatch)
    assert said in explain("teacher", error)
    assert ("256 MiB more were needed" in explain("teacher", error)) == (name in ("torch", "onnxruntime"))


def test_memory_that_ran_out_below_an_error_of_another_kind():
    """As in the exporter to ONNX, which raises an error of a pass from that of a pass in it."""
    error, within = LookupError("passes failed"), ValueError("pass failed")
    error.__cause__, within.__cause__ = within, MemoryError()
    assert "memory ran out (passes failed); use a smaller batch" in explain("export", error)


def test_a_file_that_a_factory_may_not_open_is_its_own():
    with pytest.raises(UserError, match=r"^factory: 'mine:net' failed: PermissionError: .*; correct it, or the name$"):
        factory.call("mine:net", "factory", failing(PermissionError(errno.EACCES, "Permission denied", "weights.pth")))
