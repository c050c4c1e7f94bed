"""A frozen network whose convolutions are fused with what follows gives what it gave; what cannot be fused is as it was."""

import pytest
import torch
import torch.nn.functional as F
from small_net import classifier
from torch import fx, nn

from dfkd_steps.models import frozen, fused_convolutions
from dfkd_steps.models.fused_convolutions import FusedConvolution, fuse
from dfkd_steps.runtime.device import autocast, has_bf16


@pytest.fixture(autouse=True)
def there():
    if not fused_convolutions.pointwise():
        pytest.skip("this torch or processor has no such operator")


def fused_in(net) -> int:
    return sum(isinstance(layer, FusedConvolution) for layer in net.modules())


def set_norms(net):
    """Statistics and factors of BatchNorm that are not those of the start."""
    draw = torch.Generator().manual_seed(5)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.running_var, layer.weight.data):
                values.uniform_(0.5, 2.0, generator=draw)
            for values in (layer.running_mean, layer.bias.data):
                values.normal_(0, 0.5, generator=draw)


@pytest.mark.parametrize(
    ("arch", "fused"),
    [("resnet8", 7), ("resnet8-b", 7), ("wrn16-1", 6 + 6 + 7), ("resnet18", 17), ("vgg11", 8), ("lenet5", 0)],
    # WRN: 6 convolutions with their BatchNorm and ReLU, 6 with a sum, and 7 BatchNorms with their ReLU.
)
def test_answers_are_the_same(arch, fused):
    shape = (1, 28, 28) if arch == "lenet5" else (3, 32, 32)
    network = classifier(arch, shape, seed=3)
    set_norms(network)
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(1))
    fast = frozen.fast_copy(network, "fp32")
    assert fused_in(fast) == fused and not any(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules())
    with torch.no_grad():
        expected = network(images)
    torch.testing.assert_close(frozen.logits(fast, images, "fp32"), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    if has_bf16("cpu"):
        halved = frozen.fast_copy(network, "bf16")
        with torch.no_grad(), autocast("cpu", "bf16"):
            plain = network(images).float()
        got = frozen.logits(halved, images, "bf16")
        assert (got - expected).norm() < 2 * (plain - expected).norm() + 1e-3 * expected.norm()  # no more rounding than before


def test_with_a_gradient_it_is_as_it_was():
    network = classifier("wrn16-1", (3, 32, 32), seed=3)
    fast = frozen.fast_copy(network, "fp32")
    images = [torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    for net, values in zip((network, fast), images):
        net(values).square().sum().backward()
    torch.testing.assert_close(images[1].grad, images[0].grad, rtol=1e-3, atol=1e-4 * images[0].grad.abs().max().item())


class Layers(nn.Module):
    """A forward pass over two convolutions, a BatchNorm and a ReLU."""

    def __init__(self, run, **how):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.Conv2d(2, 2, **{"kernel_size": 1, **how})
        self.norm, self.relu, self.run = nn.BatchNorm2d(2), nn.ReLU(), run

    def forward(self, x):
        return self.run(self, x)


@pytest.mark.parametrize(
    ("run", "how", "fused"),
    [
        (lambda net, x: net.relu(net.one(x)), {}, 1),
        (lambda net, x: F.relu(net.one(x)) + net.two(x), {}, 2),  # a sum of two: that of the second goes with it
        (lambda net, x: torch.relu(x + net.one(x)), {}, 1),
        (lambda net, x: net.one(x) + net.two(x), {}, 1),
        (lambda net, x: net.relu(net.norm(x)) * 2, {}, 1),
        (lambda net, x: net.one(x) * 2, {}, 0),
        (lambda net, x: net.one(x) + 1.5, {}, 0),  # of a number
        (lambda net, x: torch.add(net.one(x), x, alpha=2), {}, 0),
        (lambda net, x: (y := net.one(x)) + F.relu(y), {}, 0),  # its answer is read twice
        (lambda net, x: (y := net.one(x)) + y, {}, 0),
        (lambda net, x: net.relu(net.two(x)), {"kernel_size": 3, "padding": "same"}, 0),
        (lambda net, x: net.relu(net.two(x)), {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}, 0),
        (lambda net, x: net.relu(net.two(x)), {"kernel_size": 3, "groups": 2, "stride": 2}, 1),
        (lambda net, x: F.relu6(20 * x - 9 + net.two(x)), {"bias": False}, 1),  # the sum; behind it torch has the ReLU alone
        (lambda net, x: F.relu6(net.two(40 * x)), {}, 1),
        (lambda net, x: F.silu(net.two(x)), {}, 1),
        (lambda net, x: F.hardswish(net.norm(9 * x)), {}, 1),
        (lambda net, x: F.gelu(net.one(x)), {}, 0),
        (lambda net, x: net.relu(net.two(x)), {"kernel_size": 3, "groups": 2, "dilation": 2, "padding": (2, 1)}, 1),
        (lambda net, x: F.relu(net.one(x).mean((2, 3), keepdim=True)), {}, 0),
        (lambda net, x: net.one(x) + net.two(x).mean((2, 3), keepdim=True), {}, 1),  # another shape: seen as it runs
        (lambda net, x: net.two(x) + net.one(x)[:, :, :1], {"kernel_size": (7, 1), "padding": 0}, 1),
    ],
)
def test_what_is_fused(run, how, fused):
    net = Layers(run, **how).eval().requires_grad_(False)
    set_norms(net)
    traced = fuse(fx.symbolic_trace(net))
    assert fused_in(traced) == fused
    x = torch.randn(3, 2, 7, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(traced(x), net(x), rtol=1e-5, atol=1e-5)


def test_only_what_runs_in_one_pass_goes_through_the_operator(monkeypatch):
    calls, call = [], fused_convolutions.pointwise()

    class Counting:
        def __call__(self, *arguments):
            calls.append("alone")
            return call(*arguments)

        def binary(self, *arguments):
            calls.append("with a sum")
            return call.binary(*arguments)

    monkeypatch.setattr(fused_convolutions, "pointwise", Counting)
    layer, x = FusedConvolution(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU).requires_grad_(False), torch.randn(3, 2, 6, 6)
    layer(x)  # gradients are on
    with torch.no_grad():
        layer(x, x[:, :, :1])
        layer(x, x.bfloat16())
        if has_bf16("cpu"):
            with autocast("cpu", "bf16"):
                layer(x)  # its weights are in float32, and autocast computes in bf16
        assert not calls
        layer(x)
        layer(x, x)
        FusedConvolution(nn.Conv2d(2, 2, 3, 2, 3, 3).requires_grad_(False), None)(x, x[:, :, ::2, ::2])
    assert calls == ["alone", "with a sum", "with a sum"]


def test_a_release_without_the_operator_computes_as_before(monkeypatch):
    monkeypatch.setattr(fused_convolutions, "pointwise", lambda: None)
    network, images = classifier("wrn16-1", (3, 32, 32), seed=3), torch.rand(2, 3, 32, 32)
    fast = frozen.fast_copy(network, "fp32")
    with torch.no_grad():
        torch.testing.assert_close(frozen.logits(fast, images, "fp32"), network(images), rtol=1e-4, atol=1e-4)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules())


@pytest.mark.skipif(not has_bf16("cpu"), reason="no bf16 instructions here")
@pytest.mark.parametrize(("inputs", "groups"), [(4, 4), (4, 2), (1, 1)])
def test_a_sum_that_torch_rectifies_apart_is_taken_in_bf16_too(inputs, groups):
    torch.manual_seed(0)
    layer = FusedConvolution(nn.Conv2d(inputs, 4, 1, groups=groups).to(torch.bfloat16), nn.ReLU)
    images, other = torch.rand(2, inputs, 5, 6), torch.randn(2, 4, 5, 6, dtype=torch.bfloat16)
    with torch.no_grad(), autocast("cpu", "bf16"):
        expected = F.relu(layer.convolution(images) + other)
        torch.testing.assert_close(layer(images, other), expected, rtol=0.02, atol=0.02)
