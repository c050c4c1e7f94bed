"""Convolutions of a frozen network together with the sum and the activation after them, and BatchNorm with its activation, in one
pass over the maps on a CPU.

A network of narrow layers spends nearly as long on these as on its convolutions. The operators are those that torch's own
compiler calls; where a release of torch lacks them, or a gradient is wanted, each layer computes as it was.
"""

import functools
import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from ..runtime.errors import let_through

SUMS = (operator.add, operator.iadd, torch.add)
ACTIVATIONS = {  # module -> the operator's name of it and its numbers, and the functions that are the same
    nn.ReLU: ("relu", [], (F.relu, torch.relu, F.relu_, torch.relu_)),
    nn.ReLU6: ("hardtanh", [0.0, 6.0], (F.relu6,)),
    nn.SiLU: ("swish", [], (F.silu,)),
    nn.Hardswish: ("hardswish", [], (F.hardswish,)),
}


@functools.cache
def pointwise():
    """torch's operator; None where this release or processor lacks it, or it takes other arguments."""
    image, weight, how = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1), ((0, 0), (1, 1), (1, 1), 1)
    try:
        call = torch.ops.mkldnn._convolution_pointwise
        alone = call(image, weight, None, *how, "relu", [], "")
        together = call.binary(image, -image - 1, weight, None, *how, "add", 1.0, "relu", [], None)
        return call if bool((alone == 1).all() and (together == 0).all()) else None
    except Exception as error:
        let_through(error)
        return None


class FusedConvolution(nn.Module):
    """``activation(convolution(x) + other)``: x (N,C,H,W), other as the convolution's answer, or None; the activation one of
    ``ACTIVATIONS``, or None."""

    def __init__(self, convolution: nn.Conv2d, activation: type[nn.Module] | None):
        super().__init__()
        self.convolution, self.activation = convolution, activation and activation()
        self.unary, self.numbers = ACTIVATIONS[activation][:2] if activation else ("none", [])

    def forward(self, x, other=None):
        layer = self.convolution
        if not self._fits(x, other):
            answer = layer(x) if other is None else layer(x) + other
            return self.activation(answer) if self.activation else answer
        x = x.to(layer.weight.dtype)  # as autocast does
        how = (layer.padding, layer.stride, layer.dilation, layer.groups)
        if other is None:
            return pointwise()(x, layer.weight, layer.bias, *how, self.unary, self.numbers, "")
        other = other.contiguous(memory_format=torch.channels_last)
        unary = "relu" if self.activation else None
        return pointwise().binary(x, other, layer.weight, layer.bias, *how, "add", 1.0, unary, [], None)

    def _fits(self, x, other) -> bool:
        """Is it computed in one pass with the answer that the layers would give?"""
        layer, dtype = self.convolution, self.convolution.weight.dtype
        if torch.is_grad_enabled() or x.device.type != "cpu" or pointwise() is None:
            return False
        if dtype == torch.float32 and torch.is_autocast_enabled("cpu"):
            return False
        if other is None:
            return True
        # Of groups, and of a single channel, torch takes the sum and its ReLU apart, for which it has no bf16.
        if dtype != torch.float32 and self.activation and (layer.groups > 1 or layer.in_channels == 1):
            return False
        return other.dtype == dtype and tuple(other.shape) == self._shape(x)

    def _shape(self, x) -> tuple[int, ...]:
        layer = self.convolution
        sides = (
            (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for side, padding, dilation, kernel, stride in zip(
                x.shape[2:], layer.padding, layer.dilation, layer.kernel_size, layer.stride
            )
        )
        return (len(x), layer.out_channels, *sides)


def fuse(traced: fx.GraphModule) -> fx.GraphModule:
    """Put convolutions of a traced network together with what follows them, in place."""
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        layer = _convolution(node, modules)
        if layer is None:
            continue
        replaced, other = [node], None
        user = _only_user(node)
        if user and user.target in SUMS and len(user.args) == 2 and not user.kwargs:
            others = [argument for argument in user.args if argument is not node]
            if len(others) == 1 and isinstance(others[0], fx.Node):
                replaced, other = [*replaced, user], others[0]
                user = _only_user(user)
        activation = _activation(user, modules) if user else None
        if activation is nn.ReLU or (activation and not other):  # behind a sum torch has the ReLU alone
            replaced.append(user)
        else:
            activation = None
        if len(replaced) > 1:
            name = f"{node.name}_fused"  # of the node: a layer may be called twice
            traced.add_submodule(name, FusedConvolution(layer, activation))
            with traced.graph.inserting_before(replaced[-1]):
                fused = traced.graph.call_module(name, (node.args[0], other) if other else (node.args[0],))
            replaced[-1].replace_all_uses_with(fused)
            for gone in reversed(replaced):
                traced.graph.erase_node(gone)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _convolution(node, modules) -> nn.Conv2d | None:
    """The convolution that a node calls, or as which its BatchNorm can be computed."""
    layer = modules.get(node.target) if node.op == "call_module" and len(node.args) == 1 and not node.kwargs else None
    if type(layer) is nn.BatchNorm2d and layer.running_mean is not None and pointwise():
        return _of_norm(layer)
    if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    return layer


def _of_norm(norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution of each channel by itself that gives what a frozen BatchNorm gives."""
    channels, scale = norm.num_features, (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    layer = nn.Conv2d(channels, channels, 1, groups=channels).to(scale.device)
    with torch.no_grad():
        layer.weight.copy_(scale.view(-1, 1, 1, 1))
        layer.bias.copy_(shift if norm.bias is None else shift + norm.bias)
    return layer


def _only_user(node):
    return next(iter(node.users)) if len(node.users) == 1 else None


def _activation(node, modules) -> type[nn.Module] | None:
    """The class of the activation that a node calls; None where it is none of ``ACTIVATIONS``."""
    if node.op == "call_module":
        kind = type(modules.get(node.target))
        return kind if kind in ACTIVATIONS else None
    return next((kind for kind, (_, _, functions) in ACTIVATIONS.items() if node.target in functions), None)
