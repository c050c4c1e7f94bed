"""DFKD_COMPILE: networks in loops are compiled, and come out as without."""

import copy
import functools
import shutil

import pytest
import torch
from small_net import CPU, close, convolutions, wrap
from torch import nn
from torch._dynamo.utils import counters

from dfkd_steps.methods import registry as method_registry
from dfkd_steps.methods.engines import online_student
from dfkd_steps.methods.engines.observed_teacher import ObservedTeacher
from dfkd_steps.models import hooks
from dfkd_steps.runtime.device import compiled, kept
from dfkd_steps.runtime.errors import UserError

ALTERNATING = {"rounds": 1, "turns": 2, "steps_s": 2, "train_batch": 8, "latent": 6, "width": 4, "n": 8, "student": "resnet8"}


def student():
    """A network unlike the teacher."""
    net = wrap(convolutions(10))
    for parameter in net.parameters():
        parameter.mul_(0.8)
    return net.requires_grad_(True)


@pytest.fixture
def tracing(monkeypatch):
    """Graphs are captured as ever; what they are compiled to is PyTorch's own operations, which needs no C++ compiler. The
    student is smaller than any by name, as capturing takes most of the time."""
    monkeypatch.setattr(online_student, "new_classifier", lambda *_: student())
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="eager"))
    torch.compiler.reset()
    counters.clear()


# Methods whose loops are written for CUDA graphs: fields; the graphs that they consist of; the steps of their loops.
INVERSION = {"rounds": 3, "warmup": 1, "steps": 2, "steps_s": 2, "batch": 8, "batch_s": 8, "n": 8, "student": "resnet8"}
SMALL = {"latent": 6, "width": 4}
# The generator, the teacher as it is looked into, the student as it is looked through and as it learns, the student's teacher.
FIVE = 5
GRAPHS = {
    "dafl": (ALTERNATING, FIVE, 2 * (1 + 2)),  # whose generator does not see the student, and also runs without gradients
    "dfad": (ALTERNATING, FIVE + 1, 2 * (1 + 2)),  # and the generator without gradients, for the images that are kept
    "fast": ({**INVERSION, **SMALL}, FIVE, 3 * 2 + 2 * 2),
    "nayer": ({**INVERSION, **SMALL, "life": 2, "batches": 1, "batches_warmup": 1}, FIVE, 3 * 2 + 2 * 2),
    "cmi": ({**INVERSION, **SMALL}, FIVE - 1, 3 * 2 + 2 * 2),  # whose discriminator hooks the teacher
    "adi": (INVERSION, FIVE - 1, 3 * 2 + 2 * 2),  # without a generator
    "generative": ({"rounds_each": 2, "steps": 2, "train_batch": 8, "n": 8, "batch": 8, **SMALL}, 3, 2 * 2 + 1),
}


def trained(name, device=CPU):
    """Networks and images of a method after some rounds."""
    cls = method_registry.load(name)
    method = cls(cls.Config(method=name, **GRAPHS[name][0]), wrap(convolutions(10)).to(device), [], device)
    for index in range(method.rounds or 0):
        method.round(index)
    weights = {f"{part}.{key}": value for part, net in method.networks().items() for key, value in net.state_dict().items()}
    return {name: value.detach().cpu() for name, value in {**weights, "images": method.batch(0).images}.items()}


def compilations(monkeypatch) -> list[dict]:
    """How each network is compiled."""
    seen, call = [], nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda net, **how: (seen.append(how), call(net, **how))[1])
    return seen


def test_alternating_training_ends_with_the_same_networks(tracing, monkeypatch):
    usual = trained("dfad")
    assert not counters["stats"]
    monkeypatch.setenv("DFKD_COMPILE", "1")
    compiled = trained("dfad")
    assert counters["stats"]["unique_graphs"] >= 3  # the generator; the student as it learns, and as it is looked through
    assert list(compiled) == list(usual)
    for name, value in usual.items():
        close(compiled[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted({*GRAPHS} - {"dfad"}))
def test_loops_for_cuda_graphs_end_with_the_same_images(name, tracing, monkeypatch):
    """Of each loop the same few graphs in all rounds, none interrupted by what cannot be captured; each step is marked."""
    usual = trained(name)
    marks, how = [], compilations(monkeypatch)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(1))
    monkeypatch.setenv("DFKD_COMPILE", "graphs")
    compiled = trained(name)
    _, graphs, steps = GRAPHS[name]
    assert counters["stats"]["unique_graphs"] == graphs and not counters["graph_break"], counters
    assert len(marks) == steps and all(one == {"mode": "reduce-overhead", "dynamic": False} for one in how)
    assert list(compiled) == list(usual)
    for part, value in usual.items():
        close(compiled[part], value, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", GRAPHS)
def test_cuda_graphs_end_with_the_same_images(name, monkeypatch):
    """On the GPU itself, where nothing that a later step overwrites may be looked at."""
    usual = trained(name, torch.device("cuda"))
    monkeypatch.setenv("DFKD_COMPILE", "graphs")
    torch.compiler.reset()
    for part, value in trained(name, torch.device("cuda")).items():
        close(value, usual[part], rtol=1e-2, atol=1e-3)


def test_an_observed_teacher_gives_what_enters_its_layers():
    teacher, images = wrap(convolutions(10)), torch.rand(8, 1, 8, 8)
    observed = ObservedTeacher(teacher, teacher.net[-1], norms=True)
    with torch.no_grad(), hooks.entering(teacher.net[-1]) as entered, hooks.batchnorm_inputs(teacher.net) as inputs:
        expected = teacher(images)
        for _ in range(2):
            logits, features, statistics = observed(images)
            close(logits, expected)
            close(features[0], entered[0])
            for (mean, var), (_, values) in zip(statistics, inputs, strict=True):
                close(mean, values.mean((0, 2, 3)))
                close(var, values.var((0, 2, 3), correction=0))
            assert not observed._entered and not observed._features  # or a graph would give them out too
    assert not any(module._forward_pre_hooks for module in teacher.modules())


def test_what_a_graph_gave_is_copied_where_it_is_kept(monkeypatch):
    tensor = torch.ones(2)
    assert kept(tensor) is tensor
    monkeypatch.setenv("DFKD_COMPILE", "graphs")
    assert kept(tensor).data_ptr() != tensor.data_ptr() and torch.equal(kept(tensor), tensor)


def test_another_value_is_one_line(monkeypatch):
    monkeypatch.setenv("DFKD_COMPILE", "yes")
    with pytest.raises(UserError, match="DFKD_COMPILE: 'yes' must be 0, 1 or graphs; unset it for its default, 0"):
        compiled(nn.Linear(1, 1))


class Two(nn.Module):
    """Torch's own containers are not compiled as such by torch 2.11."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, inputs):
        return nn.functional.leaky_relu(self.linear(inputs), 0.2)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
def test_a_network_that_is_compiled_for_this_machine_answers_as_without(monkeypatch):
    """One small kernel, since a compiler takes many seconds for each."""
    usual = Two()
    fast, inputs = copy.deepcopy(usual), torch.randn(8, 6)
    monkeypatch.setenv("DFKD_COMPILE", "1")
    torch.compiler.reset()
    counters.clear()
    with torch.no_grad():
        close(compiled(fast)(inputs), usual(inputs), rtol=1e-3, atol=1e-5)
    assert counters["inductor"] and counters["stats"]["unique_graphs"] == 1
