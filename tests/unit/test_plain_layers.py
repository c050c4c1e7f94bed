"""timm's own layers as torch's: the same answers, and BatchNorm that can be folded."""

import pytest
import torch
from small_net import close
from torch import nn

from dfkd_steps.models import frozen, fused_convolutions, plain_layers
from dfkd_steps.models.classifier import Classifier, Description, new_classifier
from dfkd_steps.models.precision import is_float32

timm_layers = pytest.importorskip("timm.layers")


def like(height=17, width=24, channels=3):
    return Description("arch", "x", tuple("abcd"), (channels, height, width), (0.5,) * channels, (0.5,) * channels)


def wrapped(net, **size) -> Classifier:
    return Classifier(net.eval().requires_grad_(False), like(**size))


@pytest.mark.parametrize("size", [(17, 24), (24, 17), (16, 16), (15, 31)])
@pytest.mark.parametrize(
    "how",
    [{"stride": 2}, {"stride": (2, 1)}, {"stride": 3}, {"stride": 2, "groups": 3}, {"bias": False, "stride": 2}, {"dilation": 2}],
)
@pytest.mark.parametrize("kernel", [1, 3, (5, 2), 6])
def test_padding_of_tensorflow(size, how, kernel):
    torch.manual_seed(0)
    classifier = wrapped(nn.Sequential(timm_layers.Conv2dSame(3, 6, kernel, **how)), height=size[0], width=size[1])
    images = torch.rand(2, 3, *size)
    expected = classifier(images)
    plain_layers.put_in(classifier)
    if "dilation" not in how:
        assert type(classifier.net[0]) is nn.Conv2d
    close(classifier(images), expected)


def test_a_layer_that_sees_two_sizes_stays():
    layer = timm_layers.Conv2dSame(3, 3, 3, stride=2)
    classifier = wrapped(nn.Sequential(layer, layer))
    plain_layers.put_in(classifier)
    assert all(type(each) is timm_layers.Conv2dSame for each in classifier.net)


@pytest.mark.parametrize("act", [nn.SiLU, nn.ReLU6, None])
def test_batchnorm_with_its_activation_becomes_two_layers(act):
    torch.manual_seed(0)
    layer = timm_layers.BatchNormAct2d(3, act_layer=act or nn.ReLU, apply_act=act is not None, eps=0.1)
    for values in (layer.running_mean, layer.running_var, layer.weight.data, layer.bias.data):
        values.uniform_(0.5, 2.0)
    classifier, images = wrapped(nn.Sequential(layer)), torch.rand(2, 3, 17, 24)
    expected = classifier(images)
    plain_layers.put_in(classifier)
    assert [type(each) for each in classifier.net.modules() if not list(each.children())] == [
        nn.BatchNorm2d,
        *filter(None, [act]),
    ]
    close(classifier(images), expected)


@pytest.mark.parametrize(
    ("name", "fused"), [("timm.tf_efficientnet_lite0", 33), ("timm.mobilenetv3_small_050", 32), ("torchvision.mobilenet_v2", 45)]
)
def test_networks_of_libraries_are_folded(name, fused):
    if not fused_convolutions.pointwise():
        pytest.skip("this torch or processor has no such operator")
    network = new_classifier(name, like(64, 64), 0).requires_grad_(False)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        network.train()(torch.rand(16, 3, 64, 64, generator=draw))  # statistics of something
    network.eval()
    images = torch.rand(3, 3, 64, 64, generator=draw)
    fast = frozen.fast_copy(network, "fp32")
    layers = list(fast.modules())
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers)
    assert sum(isinstance(layer, fused_convolutions.FusedConvolution) for layer in layers) == fused
    close(frozen.logits(fast, images, "fp32"), network(images).detach(), rtol=1e-3, atol=1e-4)
    halved = frozen.fast_copy(network, "bf16")
    convolutions = [layer for layer in halved.modules() if isinstance(layer, nn.Conv2d)]
    assert not any(map(is_float32, convolutions)) and any(map(is_float32, network.modules()))  # without a gradient bf16 is quick
    assert {layer.weight.dtype for layer in convolutions} == {torch.bfloat16}
