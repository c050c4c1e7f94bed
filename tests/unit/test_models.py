"""Every architecture: shapes, published sizes, channels_last, and what it refuses."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dfkd_steps.models import hooks, wrn
from dfkd_steps.models import registry as model_registry
from dfkd_steps.models.alexnet import LocalResponseNorm
from dfkd_steps.models.classifier import build_architecture
from dfkd_steps.models.pooling import NarrowMaxPool2d, global_mean, place_means
from dfkd_steps.runtime.errors import UserError

# parameters at 10 classes, as papers and public code give them; LeNet with one channel, the others with three
PUBLISHED = {
    "lenet5": 61_706,
    "lenet5-conv": 61_706,
    "alexnet": 1_660_000,
    "alexnet-half": 420_000,
    "resnet20": 270_000,
    "resnet32": 460_000,
    "resnet56": 850_000,
    "resnet18": 11_174_000,
    "resnet34": 21_282_000,
    "vgg11": 9_231_114,
    "vgg19": 20_040_522,
    "wrn16-1": 175_000,
    "wrn16-2": 692_000,
    "wrn40-1": 564_000,
    "wrn40-2": 2_244_000,
}


@pytest.mark.parametrize("arch", model_registry.names())
def test_any_channels_and_classes(arch):
    torch.manual_seed(0)
    for channels, classes in ((1, 7), (3, 10)):
        net = build_architecture(arch, classes, (channels, 32, 32)).eval()
        images = torch.rand(2, channels, 32, 32, requires_grad=True)
        logits = net(images)
        dense = model_registry.task_of(arch) == "segmentation"
        assert logits.shape == ((2, classes, 32, 32) if dense else (2, classes))
        assert torch.isfinite(logits).all()
        assert torch.allclose(net.to(memory_format=torch.channels_last)(images), logits, rtol=1e-4, atol=1e-4)
        logits.sum().backward()
        assert images.grad.abs().sum() > 0
        assert dense or hooks.last_linear(net, (channels, 32, 32)).out_features == classes
        net.train()(images).sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize(("arch", "number"), PUBLISHED.items())
def test_published_sizes(arch, number):
    channels = 1 if arch.startswith("lenet") else 3
    assert hooks.parameters(build_architecture(arch, 10, (channels, 32, 32))) == pytest.approx(number, rel=0.01)


@pytest.mark.parametrize("arch", model_registry.names())
def test_refuses_images_that_do_not_fit(arch):
    with pytest.raises(UserError, match=r"image shape \(3, 7, 7\) does not fit; it|image shape \(3, 7, 7\) does not fit; its"):
        build_architecture(arch, 10, (3, 7, 7))


@pytest.mark.parametrize("form", ["lenet5", "lenet5-half", "lenet5-conv", "lenet5-conv-half"])
def test_lenet_takes_both_sizes(form):
    for side in (28, 32):
        assert build_architecture(form, 10, (1, side, side))(torch.rand(2, 1, side, side)).shape == (2, 10)
    with pytest.raises(UserError, match="28x28 or 32x32"):
        build_architecture(form, 10, (1, 64, 64))


def test_small_grey_images_fit_all():
    for arch in model_registry.names():
        assert build_architecture(arch, 7, (1, 28, 28)).eval()(torch.rand(2, 1, 28, 28)).shape[:2] == (2, 7), arch
    with pytest.raises(UserError, match=r"vgg11: image shape \(1, 7, 9\) does not fit; its three pooling layers need 8x8 pixels"):
        build_architecture("vgg11", 7, (1, 7, 9))


@pytest.mark.parametrize(("shape", "last"), [((32, 32), (4, 4)), ((63, 96), (7, 12)), ((64, 64), (4, 4)), ((128, 160), (4, 5))])
def test_the_last_maps_of_vgg_are_as_large_as_in_the_public_code(shape, last):
    """Its weights fit whatever the number of pools, and would give other logits."""
    net = build_architecture("vgg11", 10, (3, *shape)).eval()
    with torch.no_grad():
        assert net.features(torch.zeros(1, 3, *shape)).shape == (1, 512, *last)


def test_same_seed_same_weights():
    def made():
        torch.manual_seed(3)
        return build_architecture("wrn16-1", 10, (3, 32, 32)).state_dict()

    assert all(torch.equal(one, two) for one, two in zip(made().values(), made().values(), strict=True))


def test_option_a_has_no_parameters_and_keeps_every_second_pixel():
    option_a, option_b = (build_architecture(arch, 10, (3, 32, 32)) for arch in ("resnet20", "resnet20-b"))
    # two 1x1 convolutions with their BatchNorm
    assert hooks.parameters(option_b) - hooks.parameters(option_a) == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    x = torch.rand(2, 16, 8, 8)
    short = option_a.layer2[0].shortcut(x)
    assert torch.equal(short[:, 8:24], x[:, :, ::2, ::2])
    assert not short[:, :8].any()
    assert not short[:, 24:].any()


def test_response_norm_is_that_of_torch():
    x, gradient = torch.randn(2, 2, 12, 5, 5, generator=torch.Generator().manual_seed(0)) * 30
    x.requires_grad_()
    ours, torchs = LocalResponseNorm()(x), F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=1.0)  # it divides alpha by 5
    assert torch.allclose(ours, torchs, rtol=1e-5)
    for_ours, for_torchs = (torch.autograd.grad(y, x, gradient)[0] for y in (ours, torchs))
    assert torch.allclose(for_ours, for_torchs, rtol=1e-5, atol=1e-5)


def test_larger_images_fit_the_deep_ones():
    for arch in ("resnet8", "wrn16-1", "vgg11", "alexnet-half"):
        assert build_architecture(arch, 5, (3, 64, 64)).eval()(torch.rand(1, 3, 64, 64)).shape == (1, 5)


def test_macs_of_lenet_by_hand():
    net = build_architecture("lenet5", 10, (1, 28, 28))
    by_hand = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10
    assert hooks.macs(net, (1, 28, 28)) == by_hand


class Convolutional(nn.Module):
    """Its logits come from a convolution."""

    def __init__(self):
        super().__init__()
        self.linear, self.head = nn.Linear(4, 4), nn.Conv2d(1, 3, 4)

    def forward(self, x):
        return self.head(self.linear(x)).flatten(1)


class Flattened(nn.Sequential):
    """Hands out its logits as another tensor object."""

    def forward(self, x):
        return super().forward(x).flatten(1)


def test_last_linear_is_the_last_used_and_looking_leaves_the_mode_and_statistics():
    net = Flattened(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3)).train()
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert hooks.last_linear(net, (1, 4, 4)) is net[4]
    assert hooks.macs(net, (1, 4, 4)) == 16 * 5 + 5 * 3
    assert [one.training for one in net] == [True, False, True, True, True]
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(UserError, match="do not come from a linear layer"):
        hooks.last_linear(nn.Sequential(net, nn.Softmax(1)), (1, 4, 4))


def test_last_linear_needs_a_linear_classifier():
    with pytest.raises(UserError, match="do not come from a linear layer"):
        hooks.last_linear(Convolutional(), (1, 4, 4))


def test_hooks_see_and_leave():
    net, shape = build_architecture("resnet8", 10, (3, 16, 16)).eval(), (3, 16, 16)
    images = torch.rand(4, *shape)
    with hooks.entering(hooks.last_linear(net, shape)) as features, hooks.batchnorm_inputs(net) as inputs:
        net(torch.zeros(2, *shape))
        logits = net(images)
        other = threading.Thread(target=net, args=(torch.zeros(3, *shape),))
        other.start()
        other.join()
        seen, kept = list(inputs), features[0]
    assert torch.allclose(hooks.last_linear(net, shape)(kept), logits, atol=1e-5)
    assert [layer for layer, _ in seen] == [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert seen[0][1].shape == (4, 16, 16, 16)
    assert not any(module._forward_hooks for module in net.modules())
    with pytest.raises(RuntimeError), hooks.batchnorm_inputs(net):
        raise RuntimeError
    assert not any(module._forward_hooks for module in net.modules())
    with (
        pytest.raises(UserError, match="no BatchNorm statistics"),
        hooks.batchnorm_inputs(build_architecture("lenet5", 10, (1, 28, 28))),
    ):
        pass


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_narrow_pooling_is_max_pooling(layout):
    images = torch.randn(5, 3, 8, 6, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    there = torch.randn(5, 3, 4, 3, generator=torch.Generator().manual_seed(1))
    found = []
    for pool in (NarrowMaxPool2d(), nn.MaxPool2d(2)):
        asked = images.clone().requires_grad_()
        out = pool(asked)
        out.backward(there)
        found.append((out.detach(), asked.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_narrow_pooling_shares_no_gradient_among_equal_pixels():
    images = torch.ones(1, 1, 4, 4, requires_grad=True)
    NarrowMaxPool2d()(images).sum().backward()
    assert images.grad.sum() == 4 and set(images.grad.unique().tolist()) == {0.0, 1.0}


LARGE = {"resnet18": 1.9e9, "resnet34": 3.8e9, "resnet20": 1.7e8, "wrn16-2": 4.5e8}  # torchvision's: 1.8 and 3.7 GMAC


@pytest.mark.parametrize("pool", [global_mean, place_means])
def test_means_over_places_and_their_gradient(pool):
    maps = torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)

    def found(of):
        leaf = maps.clone().requires_grad_()
        means = of(leaf)
        (means * torch.arange(6.0)).square().sum().backward()
        return means, leaf.grad

    for ours, torchs in zip(found(pool), found(lambda maps: maps.mean((2, 3)))):
        assert torch.allclose(ours, torchs, rtol=1e-5, atol=1e-7)


def test_the_gradient_of_means_over_places_has_the_channels_last():
    maps = torch.randn(4, 6, 5, 3).to(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(place_means(maps).square().sum(), maps)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


class OtherOrders(TorchDispatchMode):
    """Counts the operations, but for views, that write maps whose channels are not last."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        made = operation(*arguments, **(named or {}))
        maps = [one for one in (made if isinstance(made, tuple) else [made]) if isinstance(one, torch.Tensor) and one.ndim == 4]
        for one in maps:
            repeated, view = 0 in one.stride(), one._base is not None
            several = one.shape[1] > 1 and one.shape[2:].numel() > 1
            if several and not (repeated or view or one.is_contiguous(memory_format=torch.channels_last)):
                self.found.append(str(operation))
        return made


@pytest.mark.parametrize("arch", ["resnet8", "resnet20", "wrn16-1", "vgg11"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_maps_and_gradients_of_a_channels_last_network_keep_the_channels_last(arch, precision):
    net = build_architecture(arch, 10, (3, 32, 32)).to(memory_format=torch.channels_last).train()
    images = torch.rand(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with OtherOrders() as orders, torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        net(images).float().square().sum().backward()
    assert not orders.found


@pytest.mark.parametrize("arch", LARGE)
def test_large_images_get_a_stem_and_small_ones_do_not(arch):
    """A sixteenth of the operations for each pixel; of 95 pixels on none."""
    small, just, large = (hooks.macs(build_architecture(arch, 10, (3, side, side)), (3, side, side)) for side in (32, 95, 224))
    assert large < LARGE[arch] and just > 8 * small
    net = build_architecture(arch, 3, (3, 96, 128)).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 96, 128)).shape == (1, 3)
    assert net.conv1.weight.shape[2:] == (7, 7) and build_architecture(arch, 3, (3, 95, 128)).conv1.weight.shape[2:] == (3, 3)


@pytest.mark.parametrize(
    ("arch", "layer", "deviation"),
    [
        ("wrn16-1", "stages.2.conv1", (2 / (9 * 32)) ** 0.5),  # by what leaves it: 32 channels of 3x3
        ("vgg11", "features.4", (2 / (9 * 128)) ** 0.5),
        ("vgg11", "classifier", 0.01),
        ("resnet8", "layer2.0.conv1", (2 / (9 * 16)) ** 0.5),  # by what enters it
        ("resnet8", "linear", (2 / 64) ** 0.5),
        ("unet-tiny", "up.0.0", None),
    ],
)
def test_weights_start_as_he_et_al_have_them(arch, layer, deviation):
    torch.manual_seed(0)
    weight = build_architecture(arch, 10, (3, 32, 32)).get_submodule(layer).weight.detach()
    deviation = deviation or (2 / weight[0].numel()) ** 0.5
    assert weight.std().item() == pytest.approx(deviation, rel=0.06) and abs(weight.mean()) < 0.1 * deviation


def test_alexnet_drops_half_of_each_layer_before_the_last():
    assert [layer.p for layer in build_architecture("alexnet", 10, (3, 32, 32)) if isinstance(layer, torch.nn.Dropout)] == [
        0.5
    ] * 2


@pytest.mark.parametrize("widths", [(3, 5), (4, 4)])
def test_the_shortcut_of_a_wide_block_starts_behind_the_activation_where_the_width_changes(widths):
    torch.manual_seed(0)
    block, images = wrn.Block(*widths, 1).eval(), torch.randn(2, widths[0], 6, 6)
    for norm in (block.bn1, block.bn2):
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.bias)
    active = block.bn1(images).relu()
    path = block.conv2(block.bn2(block.conv1(active)).relu())
    beside = images if widths[0] == widths[1] else F.conv2d(active, block.shortcut.weight)
    assert torch.allclose(block(images), path + beside, atol=1e-5)
