"""Looking into a network: its classifier, its features, its BatchNorm inputs, its size. Hooks never outlive the call."""

import contextlib
import threading

import torch
import torch.nn.functional as F
from torch import nn

from ..runtime import memory
from ..runtime.device import call_plainly
from ..runtime.errors import UserError

FROZEN = ("FrozenBatchNorm2d", "FrozenBatchNormAct2d")  # torchvision's and timm's BatchNorm without weights to train


@contextlib.contextmanager
def hooked(modules, hook, before=False):
    """``hook`` on each forward pass of each module, inside the block only; ``before``: before the pass, not after it.

    Sees the passes of its own thread only: batches are made side by side on one teacher.
    """
    owner = threading.get_ident()

    def in_own_thread(*arguments):
        if threading.get_ident() == owner:
            hook(*arguments)

    handles = [
        module.register_forward_pre_hook(in_own_thread) if before else module.register_forward_hook(in_own_thread)
        for module in modules
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _eval_without_gradients(net):
    """The network in eval mode and without gradients, inside the block only: so no BatchNorm statistics change."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def last_linear(net: nn.Module, image_shape) -> nn.Linear:
    """The linear layer whose output is the logits; raises UserError where the classifier is none.

    Found by running two random images, since the order of definition does not tell the order of use.
    """
    seen = []
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    images = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0)).to(next(net.parameters()).device)
    with _eval_without_gradients(net), hooked(linear, lambda module, inputs, output: seen.append((module, output))):
        logits = net(images)
    if not seen or (seen[-1][1] is not logits and not torch.equal(seen[-1][1], logits)):
        raise UserError(
            f"{type(net).__name__}: its logits do not come from a linear layer, which this method needs; use another teacher"
        )
    return seen[-1][0]


def feeding(net: nn.Module, image_shape):
    """The layer whose units enter the classifier: (convolution or linear layer, BatchNorm after it or None, whether they
    are rectified on the way); None where no layer has as many units as the classifier takes.

    A projection in a shortcut is not taken for it: what enters it entered another layer before.
    """
    last, seen, entering = last_linear(net, image_shape), [], []
    entered, aside = [], []  # what entered a layer, and what left one of a shortcut; with versions, since += keeps the tensor
    modules = [layer for layer in net.modules() if isinstance(layer, (nn.Linear, nn.Conv2d, nn.modules.batchnorm._BatchNorm))]
    number = max(2, min(64, memory.drawn(image_shape) // 10))  # all that enters a layer is held
    images = torch.rand(number, *image_shape, generator=torch.Generator().manual_seed(0)).to(next(net.parameters()).device)

    def keep(module, inputs, output):
        if module is last:
            entering.append(inputs[0])
        if entering:
            return
        # A block that normalises first (pre-activation) gives to BatchNorm what its projection takes afterwards.
        earlier = aside + entered if isinstance(module, (nn.Linear, nn.Conv2d)) else aside
        if any(tensor is inputs[0] and tensor._version == version for tensor, version in earlier):
            aside.append((output, output._version))
            return
        entered.append((inputs[0], inputs[0]._version))
        if module.weight is not None and len(module.weight) == last.in_features:
            seen.append(module)

    with _eval_without_gradients(net), hooked(modules, keep):
        net(images)
    layers = [module for module in seen if isinstance(module, (nn.Linear, nn.Conv2d))]
    if not layers:
        return None
    norms = [layer for layer in seen[seen.index(layers[-1]) + 1 :] if layer.bias is not None]
    return layers[-1], norms[-1] if norms else None, bool((entering[0] >= 0).all())


@contextlib.contextmanager
def entering(layer: nn.Module):
    """Yields a list that holds, after each forward pass, what entered a layer: (N,D) for the last linear one."""
    seen = []

    def keep(module, inputs, output):
        seen[:] = [inputs[0]]

    with hooked([layer], keep):
        yield seen


def batchnorm_layers(net: nn.Module) -> list[nn.Module]:
    """The BatchNorm layers that keep running statistics, frozen ones too."""
    return [norm for norm in net.modules() if _is_batchnorm(norm) and norm.running_mean is not None]


def _is_batchnorm(layer) -> bool:
    return isinstance(layer, nn.modules.batchnorm._BatchNorm) or type(layer).__name__ in FROZEN


def require_batchnorm(net: nn.Module, image_shape=None) -> list[nn.Module]:
    """``batchnorm_layers``, or those that an image of a shape reaches; raises UserError where there is none."""
    layers = reached_batchnorm(net, image_shape) if image_shape else batchnorm_layers(net)
    if not layers:
        raise UserError(f"{type(net).__name__}: has no BatchNorm statistics, which this method needs; use another teacher")
    return layers


def reached_batchnorm(net: nn.Module, image_shape) -> list[nn.Module]:
    """Those of ``batchnorm_layers`` that an image reaches in eval mode, each once: not those of heads for training alone."""
    seen, layers = [], batchnorm_layers(net)
    if layers:
        images = torch.zeros(1, *image_shape, device=layers[0].running_mean.device)
        with _eval_without_gradients(net), hooked(layers, lambda module, inputs, output: seen.append(module)):
            net(images)
    return list(dict.fromkeys(seen))


@contextlib.contextmanager
def batchnorm_inputs(net: nn.Module):
    """Yields a list that holds, after each forward pass of ``net``, (BatchNorm layer, its input) in the order of use.

    Raises UserError where no BatchNorm layer of ``net`` keeps running statistics to compare with.
    """
    seen, layers = [], require_batchnorm(net)

    def keep(module, inputs, output):
        seen.append((module, inputs[0]))

    with hooked([net], lambda *_: seen.clear(), before=True), hooked(layers, keep):
        yield seen


@contextlib.contextmanager
def feature_maps(net: nn.Module):
    """Yields a dict that holds, after each forward pass of ``net``, the last feature maps (N,C,H,W) of each size (H,W): what
    left the last block (a module that has parts), or, where no block gave maps of that size, the last layer."""
    seen, blocks = {}, {}

    def clear(*_):
        seen.clear()
        blocks.clear()

    def keep(module, inputs, output):
        if not isinstance(output, torch.Tensor) or output.ndim != 4 or output.shape[2:].numel() == 1:
            return
        size, block = tuple(output.shape[2:]), next(module.children(), None) is not None
        if block or not blocks.get(size):
            seen[size], blocks[size] = output, block

    with hooked([net], clear, before=True), hooked(net.modules(), keep):
        yield seen


def attention_layers(net: nn.Module) -> list[nn.Module]:
    """The attention layers of a transformer: PyTorch's own, and those as timm writes them (heads and a projection behind)."""
    layers = [part for part in net.modules() if isinstance(getattr(part, "proj", None), nn.Linear) and hasattr(part, "num_heads")]
    return layers or [part for part in net.modules() if isinstance(part, nn.MultiheadAttention)]


@contextlib.contextmanager
def patch_features(net: nn.Module):
    """Yields a function that gives, after each forward pass of ``net``, features (N,P,D) of image patches, a tensor a layer.

    Of a transformer: what each attention layer gives for each patch, the mean over its heads (of PyTorch's own layers, after
    their projection), without class tokens. Of another network: its last feature maps of each size, a patch a place, pooled to
    8 x 8 places at most. Layers that give class tokens alone are left out.
    """
    layers = attention_layers(net)
    if not layers:
        with feature_maps(net) as maps:
            yield lambda: [_places(maps[size]) for size in sorted(maps)]
        return
    seen, native = [], isinstance(layers[0], nn.MultiheadAttention)
    tokens = getattr(net, "num_prefix_tokens", int(native))
    patches = getattr(getattr(net, "patch_embed", None), "num_patches", None)

    def keep_projected(module, inputs, output):
        seen.append((output[0] if module.batch_first else output[0].transpose(0, 1))[:, tokens:])

    def keep_heads(heads):
        def keep(module, inputs):
            # (N,P,D), or windows in further dimensions before these.
            features = inputs[0].flatten(0, -3).unflatten(2, (heads, -1)).mean(2)
            # CaiT and XCiT bring in the class token late, in layers that give this token alone.
            features = features if features.shape[1] == patches else features[:, tokens:]
            if features.shape[1] > 1:
                seen.append(features)

        return keep

    with contextlib.ExitStack() as stack:
        stack.enter_context(hooked([net], lambda *_: seen.clear(), before=True))
        if native:
            stack.enter_context(hooked(layers, keep_projected))
        for layer in [] if native else layers:
            stack.enter_context(hooked([layer.proj], keep_heads(layer.num_heads), before=True))
        yield lambda: list(seen)


def _places(maps):
    """Maps (N,C,H,W) as features (N,P,C)."""
    return F.adaptive_avg_pool2d(maps, tuple(min(side, 8) for side in maps.shape[2:])).flatten(2).transpose(1, 2)


def parameters(net: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(parameter.numel() for parameter in net.parameters())


def macs(net: nn.Module, image_shape) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image (C,H,W)."""
    from torch.utils import flop_counter  # takes a tenth of a step's imports, and two steps count

    if mode := getattr(flop_counter, "_FlopCounterMode", None):
        call_plainly(mode.__torch_dispatch__)
    image = torch.zeros(1, *image_shape, device=next(net.parameters()).device)
    with _eval_without_gradients(net), flop_counter.FlopCounterMode(display=False) as counter:
        net(image)
    return counter.get_total_flops() // 2
