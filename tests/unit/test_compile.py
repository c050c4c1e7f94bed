"""DFKD_COMPILE: networks in loops are compiled, and come out as without."""

import copy
import shutil
from types import SimpleNamespace

import pytest
import torch
from overwriting import Overwriting
from small_net import CPU, close, convolutions, wrap
from torch import nn
from torch._dynamo.utils import counters

from dfkd_steps import distill
from dfkd_steps.methods import registry as method_registry
from dfkd_steps.methods.engines import online_student
from dfkd_steps.methods.engines.observed_teacher import ObservedTeacher
from dfkd_steps.models import hooks
from dfkd_steps.runtime.device import compiled, kept
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.training import student_losses

ALTERNATING = {"rounds": 1, "turns": 2, "steps_s": 2, "train_batch": 8, "latent": 6, "width": 4, "n": 8, "student": "resnet8"}


def student():
    """A network unlike the teacher."""
    net = wrap(convolutions(10))
    for parameter in net.parameters():
        parameter.mul_(0.8)
    return net.requires_grad_(True)


@pytest.fixture
def tracing(monkeypatch):
    """Graphs are captured as ever; what they are compiled to is PyTorch's own operations, which needs no C++ compiler, and what
    they return is overwritten as by CUDA graphs. The student is smaller than any by name, as capturing takes most of the time."""
    monkeypatch.setattr(online_student, "new_classifier", lambda *_: student())
    torch.compiler.reset()
    counters.clear()
    return Overwriting(monkeypatch)


# Methods whose loops are written for CUDA graphs: fields; the graphs that they consist of; the steps of their loops.
INVERSION = {"rounds": 3, "warmup": 1, "steps": 2, "steps_s": 2, "batch": 8, "batch_s": 8, "n": 8, "student": "resnet8"}
SMALL = {"latent": 6, "width": 4}
LS_GDFD = {"rounds_each": 1, "steps": 2, "train_batch": 8, "n": 20, "batch": 4, **SMALL}
# The generator, the teacher as it is looked into, the student as it is looked through and as it learns, the student's teacher.
FIVE = 5
MOST_IN_A_ROW = 6  # calls of a step whose results are needed together: forward and backward of up to three networks
GRAPHS = {
    # The student learns from the images of the generator's step, which does not see the student; at the end without gradients.
    "dafl": ({**ALTERNATING, "images_s": "before"}, FIVE, 2 * (1 + 2)),
    # One answer of the teacher for all steps of the student; and the generator without gradients, for the images that are kept.
    "dfad+after": ({**ALTERNATING, "images_s": "after", "steps_g": 2}, FIVE + 1, 2 * (2 + 2)),
    "fast": ({**INVERSION, **SMALL}, FIVE, 3 * 2 + 2 * 2),
    "nayer": ({**INVERSION, **SMALL, "life": 2, "batches": 1, "batches_warmup": 1}, FIVE, 3 * 2 + 2 * 2),
    "cmi": ({**INVERSION, **SMALL}, FIVE - 1, 3 * 2 + 2 * 2),  # whose discriminator hooks the teacher
    "adi": (INVERSION, FIVE - 1, 3 * 2 + 2 * 2),  # without a generator
    "generative": ({**LS_GDFD, "members": 5}, 5 * 2 + 1, 5 * 2 + 5),  # more graphs of one class than the compiler makes by itself
    "deepinversion+bf16": ({"steps": 2, "n": 8, "batch": 8, "precision": "bf16"}, 1, 2),
}


def trained(case, device=CPU):
    """Networks and images of a method after some rounds."""
    name = case.split("+")[0]
    cls = method_registry.load(name)
    method = cls(cls.Config(method=name, **GRAPHS[case][0]), wrap(convolutions(10)).to(device), [], device)
    for index in range(method.rounds or 0):
        method.round(index)
    weights = {f"{part}.{key}": value for part, net in method.networks().items() for key, value in net.state_dict().items()}
    images = torch.cat([one.images for one in [method.batch(index) for index in range(method.count())]])  # all are held
    return {name: value.detach().cpu() for name, value in {**weights, "images": images}.items()}


def test_alternating_training_ends_with_the_same_networks(tracing, monkeypatch):
    usual = trained("dfad+after")
    assert not counters["stats"]
    monkeypatch.setenv("DFKD_COMPILE", "1")
    compiled = trained("dfad+after")
    assert counters["stats"]["unique_graphs"] >= 3  # the generator; the student as it learns, and as it is looked through
    assert list(compiled) == list(usual)
    for name, value in usual.items():
        close(compiled[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", GRAPHS)
def test_loops_for_cuda_graphs_end_with_the_same_images(name, tracing, monkeypatch):
    """Of each loop the same few graphs in all rounds, none interrupted by what cannot be captured; each step is marked, and
    nothing is read after it is overwritten."""
    usual = trained(name)
    monkeypatch.setenv("DFKD_COMPILE", "graphs")
    compiled = trained(name)
    _, graphs, steps = GRAPHS[name]
    assert counters["stats"]["unique_graphs"] == graphs and not counters["graph_break"], counters
    assert tracing.marks == steps and tracing.deepest <= MOST_IN_A_ROW
    assert all(one == {"mode": "reduce-overhead", "dynamic": False} for one in tracing.how)
    assert list(compiled) == list(usual)
    for part, value in usual.items():
        close(compiled[part], value, rtol=1e-3, atol=5e-4)


class Stored:
    """Images of a set, as distill reads them."""

    def __init__(self):
        self.all, self.at_once = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)), 4

    def __call__(self, rows):
        return self.all[rows]


def test_the_losses_of_a_set_without_logits(tracing, monkeypatch):
    def losses():
        compare, rows = student_losses.load("kd", 1.0, wrap(convolutions(10)).description), torch.arange(12)
        networks = compiled(student()), compiled(wrap(convolutions(10)))
        return [distill.hardness(networks[0], Stored(), rows, compare, "fp32", networks[1]) for _ in range(2)]

    usual = losses()
    monkeypatch.setenv("DFKD_COMPILE", "graphs")
    for found, expected in zip(losses(), usual, strict=True):
        close(found, expected)
    assert tracing.deepest <= MOST_IN_A_ROW


def test_new_views_are_asked_about_by_one_graph(tracing, monkeypatch):
    """However many of a batch have all their views: here all, and 4 of 8 images are new."""
    config = SimpleNamespace(batch=8, views_kept=1, augment="shift", precision="fp32")
    teacher, images = wrap(convolutions(10)), Stored().all

    def logits():
        kept_ones = distill.keep_views(config, teacher.description, 12, compiled(copy.deepcopy(teacher)), CPU)
        rng = torch.Generator().manual_seed(0)
        places = [torch.arange(8), torch.arange(4, 12) % 12, torch.arange(8)]
        return torch.cat([kept_ones.batch(some, images[some], rng)[1] for some in places])

    usual = logits()
    monkeypatch.setenv("DFKD_COMPILE", "graphs")
    close(logits(), usual, rtol=1e-3, atol=1e-3)
    assert counters["stats"]["unique_graphs"] == 1


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
