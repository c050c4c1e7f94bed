"""DFKD_COMPILE: networks in loops are compiled, and come out as without."""

import copy
import functools
import shutil

import pytest
import torch
from small_net import CPU, classifier, close
from torch import nn
from torch._dynamo.utils import counters

from dfkd_steps.methods import registry as method_registry
from dfkd_steps.runtime.device import compiled
from dfkd_steps.runtime.errors import UserError

ALTERNATING = {"rounds": 1, "turns": 2, "steps_s": 2, "train_batch": 8, "latent": 6, "width": 4, "n": 8, "student": "resnet8"}


@pytest.fixture
def tracing(monkeypatch):
    """Graphs are captured as ever; what they are compiled to is PyTorch's own operations, which needs no C++ compiler."""
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="eager"))
    torch.compiler.reset()
    counters.clear()


def trained():
    cls = method_registry.load("dfad")
    method = cls(cls.Config(method="dfad", **ALTERNATING), classifier(seed=1), [], CPU)
    method.round(0)
    return {f"{name}.{key}": value for name, net in method.networks().items() for key, value in net.state_dict().items()}


def test_alternating_training_ends_with_the_same_networks(tracing, monkeypatch):
    usual = trained()
    assert not counters["stats"]
    monkeypatch.setenv("DFKD_COMPILE", "1")
    compiled = trained()
    assert counters["stats"]["unique_graphs"] >= 3  # the generator; the student as it learns, and as it is looked through
    assert list(compiled) == list(usual)
    for name, value in usual.items():
        close(compiled[name], value, rtol=1e-3, atol=1e-4)


def test_another_value_is_one_line(monkeypatch):
    monkeypatch.setenv("DFKD_COMPILE", "yes")
    with pytest.raises(UserError, match="DFKD_COMPILE: 'yes' must be 0 or 1; unset it for its default, 0"):
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
