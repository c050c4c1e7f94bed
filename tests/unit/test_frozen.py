"""A frozen network in its fast form: its logits, what it leaves alone, and what is left of its BatchNorm layers."""

import copy

import pytest
import torch
from small_method import build
from small_net import classifier, close, wrap
from torch import nn

from dfkd_steps.models import cast, frozen, fused_convolutions
from dfkd_steps.models.cast import cast_copy
from dfkd_steps.models.classifier import Classifier, Description
from dfkd_steps.runtime import device


def with_statistics(network):
    """The network with BatchNorm statistics and scales unlike those of a new one."""
    rng = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=rng) * 0.2)
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=rng))
            module.weight.data.copy_(0.5 + torch.rand(module.num_features, generator=rng))
    return network.eval().requires_grad_(False)


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(("arch", "left"), [("resnet8", 0), ("wrn16-1", 7), ("vgg11", 0)])
def test_the_logits_are_those_of_the_network(arch, left):
    network = with_statistics(classifier(arch, (3, 32, 32), seed=1))
    fast, images = frozen.fast_copy(network, "fp32"), torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        close(frozen.logits(fast, images, "fp32"), network(images), rtol=1e-4, atol=1e-4)
    assert norms(fast) == (0 if fused_convolutions.pointwise() else left) < norms(network)
    assert all(not one.requires_grad for one in fast.parameters()) and not fast.training


@pytest.mark.skipif(not device.has_bf16("cpu"), reason="no bf16 instructions here")
@pytest.mark.parametrize("name", ["zskd", "soft-targeted"])
def test_weights_of_the_teacher_are_not_cast_in_each_step_of_pixels(name, monkeypatch):
    method = build(name, classifier("lenet5", (1, 28, 28), seed=1), precision="bf16", n=4, batch=4)
    images, targets = torch.rand(4, 1, 28, 28), torch.full((4, 10), 0.1)
    expected = method.losses_of(images, targets)
    assert {one.weight.dtype for one in method.cast.net.modules() if isinstance(one, nn.Conv2d)} == {torch.bfloat16}
    monkeypatch.setattr(method.teacher, "forward", None)
    assert torch.equal(method.losses_of(images, targets), expected)


@pytest.mark.skipif(not device.has_bf16("cpu"), reason="no bf16 instructions here")
def test_weights_of_a_teacher_of_attention_maps_are_cast_once():
    method = build("zskt", with_statistics(classifier("resnet8", (3, 32, 32), seed=1)), precision="bf16", attention_s=1.0)
    teacher = method.student.teacher
    assert norms(teacher) and {one.weight.dtype for one in teacher.net.modules() if isinstance(one, nn.Conv2d)} == {
        torch.bfloat16
    }


def test_the_network_itself_stays_as_it_is():
    network = with_statistics(classifier("resnet8", (3, 16, 16), seed=1))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fast = frozen.fast_copy(network, "bf16")
    for parameter in fast.parameters():
        parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.skipif(not device.has_bf16("cpu"), reason="no bf16 instructions here")
def test_weights_cast_once_give_the_gradient_of_weights_cast_in_each_pass():
    network = with_statistics(classifier("resnet8", (3, 16, 16), seed=1))
    copied, found = cast_copy(network, "bf16"), []
    assert copied is not network and norms(copied) == norms(network)
    assert {one.weight.dtype for one in copied.net.modules() if isinstance(one, nn.Conv2d)} == {torch.bfloat16}
    for one in (network, copied):
        images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2)).requires_grad_()
        with device.autocast("cpu", "bf16"):
            one(images).float().square().sum().backward()
        found.append(images.grad)
    assert torch.equal(*found) and cast_copy(network, "fp32") is network


class Standardised(nn.Conv2d):
    """A convolution whose weights are standardised first, as in networks without BatchNorm."""

    def forward(self, images):
        mean, var = self.weight.mean((1, 2, 3), keepdim=True), self.weight.var((1, 2, 3), keepdim=True)
        return self._conv_forward(images, (self.weight - mean) / var.sqrt(), self.bias)


def normalised(kind):
    return nn.utils.parametrizations.weight_norm(kind(3, 4, 3))


@pytest.mark.skipif(not device.has_bf16("cpu"), reason="no bf16 instructions here")
@pytest.mark.parametrize("first", [Standardised(3, 4, 3), normalised(nn.Conv2d), nn.Conv2d(3, 4, 3)])
def test_weights_are_cast_after_what_a_layer_does_to_them(first):
    torch.manual_seed(0)
    network = wrap(nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)).requires_grad_(False), (3, 8, 8))
    network.net[0].requires_grad_(False)
    images, copied = torch.rand(2, 3, 8, 8), cast_copy(network.eval(), "bf16")
    with torch.no_grad(), device.autocast("cpu", "bf16"):
        assert torch.equal(copied(images), network(images))
    assert copied.net[3].weight.dtype == torch.bfloat16
    assert {value.dtype for value in copied.net[0].parameters()} == {
        torch.bfloat16 if type(first) is nn.Conv2d else torch.float32
    }


class Twice(nn.Module):
    """One convolution that is used twice, with a BatchNorm behind each use or behind none."""

    def __init__(self, norms):
        super().__init__()
        self.tied, self.last = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(64, 10)
        self.norms = nn.ModuleList(nn.BatchNorm2d(1) for _ in range(2)) if norms else [lambda seen: seen] * 2

    def forward(self, images):
        for norm, activation in zip(self.norms, (nn.functional.relu, nn.functional.silu)):
            images = activation(norm(self.tied(images)))
        return self.last(images.flatten(1))


@pytest.mark.parametrize("norms", [True, False])
def test_a_layer_that_is_used_twice_answers_as_before(norms):
    torch.manual_seed(0)
    network = wrap(with_statistics(Twice(norms)))
    images = torch.rand(4, 1, 8, 8)
    fast = frozen.fast_copy(network, "fp32")
    with torch.no_grad():
        close(fast(images), network(images), rtol=1e-3, atol=1e-4)
    fused = sum(isinstance(module, fused_convolutions.FusedConvolution) for module in fast.modules())
    # Without BatchNorm both uses are put together with their activations; with it nothing is folded.
    assert fused == (2 if not norms and fused_convolutions.pointwise() else 0)


def test_a_network_that_cannot_be_traced_is_copied():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)

        def forward(self, x):
            x = self.norm(self.conv(x)).mean((2, 3))
            return self.last(x) if x.sum() > -1e9 else x

    network = classifier("resnet8", (3, 16, 16), seed=1)
    network.net = Branching()
    network = with_statistics(network)
    fast, images = frozen.fast_copy(network, "fp32"), torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        close(fast(images), network(images), atol=1e-5)
    assert norms(fast) == 1


@pytest.mark.parametrize("native", [True, False])
def test_bf16_weights_are_cast_once_where_the_device_computes_in_it(monkeypatch, native):
    monkeypatch.setattr(device, "has_bf16", lambda kind: native)
    monkeypatch.setattr(cast, "has_bf16", lambda kind: native)
    network = with_statistics(classifier("resnet8", (3, 16, 16), seed=1))
    fast, images = frozen.fast_copy(network, "bf16"), torch.rand(4, 3, 16, 16)
    kinds = {module.weight.dtype for module in fast.modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    assert kinds == {torch.bfloat16 if native else torch.float32}
    found, exact = frozen.logits(fast, images, "bf16"), network(images)
    assert found.dtype == torch.float32
    close(found, exact, rtol=0.1, atol=0.1 * exact.std()) if native else close(found, exact, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------- layers that stay in float32
def depthwise(kernel, stride):
    """A network of one depthwise convolution, by images of 4 channels."""
    torch.manual_seed(0)
    net = nn.Conv2d(4, 4, kernel, stride, padding=1, groups=4, bias=False)
    return Classifier(net, Description("factory", "x", ("a", "b"), (4, 9, 9), (0.5,) * 4, (1.0,) * 4))


@pytest.mark.parametrize(("kernel", "stride", "exact"), [(3, 2, True), (5, 1, True), (3, 1, False)])
def test_depthwise_convolutions_that_bf16_makes_slow_compute_in_float32(kernel, stride, exact, monkeypatch):
    monkeypatch.setattr(cast, "has_bf16", lambda kind: True)
    network, images = depthwise(kernel, stride), torch.rand(2, 4, 9, 9)
    plain = network(images)
    for each in (network, copy.deepcopy(network), cast_copy(network, "bf16")):
        with torch.autocast("cpu", torch.bfloat16):
            found = each(images)
            assert torch.is_autocast_enabled("cpu")
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, plain.bfloat16()) == exact


def test_a_copy_of_such_a_layer_has_weights_of_its_own():
    network = depthwise(3, 2)
    other, images = copy.deepcopy(network), torch.rand(1, 4, 9, 9)
    with torch.no_grad():
        other.net.weight.zero_()
        assert other(images).abs().max() == 0 < network(images).abs().max()
