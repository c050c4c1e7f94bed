"""Looking into networks: which layer feeds the classifier, how, and that looking changes nothing."""

import threading

import pytest
import torch
from small_net import classifier
from torch import nn

from dfkd_steps.models import hooks
from dfkd_steps.models.classifier import build_architecture
from dfkd_steps.runtime.errors import UserError


def named(net, module):
    return next((name for name, one in net.named_modules() if one is module), None)


# Architecture: image shape, the layer, the BatchNorm after it, whether what enters the classifier is rectified.
FEEDING = {
    "lenet5-half": ((1, 28, 28), "9", None, True),
    "lenet5-conv": ((1, 32, 32), "9", None, True),
    "alexnet-half": ((3, 32, 32), "25", "28", False),  # BatchNorm comes after the ReLU
    "resnet8": ((3, 8, 8), "layer3.0.conv2", "layer3.0.bn2", True),
    "resnet8-b": ((3, 8, 8), "layer3.0.conv2", "layer3.0.bn2", True),  # and not the projection, which is called after it
    "resnet20-b": ((3, 8, 8), "layer3.2.conv2", "layer3.2.bn2", True),
    "resnet18": ((3, 8, 8), "layer4.1.conv2", "layer4.1.bn2", True),
    "wrn16-1": ((1, 8, 8), "stages.5.conv2", "bn", True),
    "vgg11": ((3, 32, 32), "features.24", "features.25", True),
}


@pytest.mark.parametrize("arch", FEEDING)
def test_the_layer_that_feeds_the_classifier(arch):
    shape, layer, norm, rectified = FEEDING[arch]
    net = classifier(arch, shape).net
    found = hooks.feeding(net, shape)
    assert (named(net, found[0]), named(net, found[1]), found[2]) == (layer, norm, rectified)
    last = hooks.last_linear(net, shape)
    assert len(found[0].weight) == last.in_features and last is [one for one in net.modules() if isinstance(one, nn.Linear)][-1]


def sequence(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), *layers)


def test_features_that_are_not_rectified():
    net = sequence(nn.Linear(4, 6), nn.Linear(6, 3))
    assert hooks.feeding(net, (1, 2, 2)) == (net[1], None, False)
    net = sequence(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    assert hooks.feeding(net, (1, 2, 2)) == (net[1], net[2], False)


def test_batchnorm_without_a_shift_has_no_mean_to_give():
    net = sequence(nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False), nn.ReLU(), nn.Linear(6, 3))
    assert hooks.feeding(net, (1, 2, 2)) == (net[1], None, True)


def test_batchnorm_before_the_layer_is_not_of_it():
    net = sequence(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    assert hooks.feeding(net, (1, 2, 2)) == (net[3], None, True)


@pytest.mark.parametrize("first", ["path", "shortcut"])
def test_a_shortcut_is_not_the_layer_whatever_is_called_first_or_added_in_place(first):
    class Residual(nn.Module):
        def __init__(self, inside):
            super().__init__()
            torch.manual_seed(0)
            self.shortcut = nn.Sequential(nn.Linear(inside, 6, bias=False), nn.BatchNorm1d(6))
            self.path = nn.Sequential(nn.Linear(inside, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6), nn.BatchNorm1d(6))

        def forward(self, images):
            one, other = (self.path, self.shortcut) if first == "path" else (self.shortcut, self.path)
            before, total = one(images), other(images)
            total += before
            return total.relu_()

    net = sequence(Residual(4), Residual(6), nn.Linear(6, 3))
    assert hooks.feeding(net, (1, 2, 2)) == (net[2].path[3], net[2].path[4], True)
    net = sequence(Residual(4), nn.Linear(6, 6), nn.Linear(6, 3))
    assert hooks.feeding(net, (1, 2, 2)) == (net[2], None, False)  # it takes the sum, not what the shortcut gave


@pytest.mark.parametrize("first", ["path", "shortcut"])
@pytest.mark.parametrize("between", [nn.ReLU, nn.Identity])
def test_a_shortcut_of_a_block_that_normalises_first(first, between):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.shortcut = nn.Linear(4, 6, bias=False)
            self.path = nn.Sequential(nn.BatchNorm1d(4), between(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6))

        def forward(self, images):
            one, other = (self.path, self.shortcut) if first == "path" else (self.shortcut, self.path)
            return one(images) + other(images)

    net = sequence(Residual(), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    assert hooks.feeding(net, (1, 2, 2)) == (net[1].path[4], net[2], True)


def test_no_layer_has_the_units_of_the_classifier():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4, 3))
    assert hooks.feeding(net, (1, 4, 4)) is None
    assert hooks.feeding(sequence(nn.Linear(4, 3)), (1, 2, 2)) is None


def test_the_order_of_use_counts_and_not_that_of_definition():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.last, self.before, self.spare = nn.Linear(6, 3), nn.Linear(4, 6), nn.Linear(4, 6)

        def forward(self, images):
            return self.last(self.before(images.flatten(1)).relu())

    net = Crossed()
    assert hooks.last_linear(net, (1, 2, 2)) is net.last and hooks.feeding(net, (1, 2, 2)) == (net.before, None, True)


@pytest.mark.parametrize("tail", [nn.Softmax(1), nn.ReLU(), nn.Conv1d(1, 1, 1)])
def test_logits_that_are_not_those_of_a_linear_layer(tail):
    with pytest.raises(UserError, match="do not come from a linear layer"):
        hooks.last_linear(sequence(nn.Linear(4, 3), nn.Unflatten(1, (1, 3)), tail, nn.Flatten()), (1, 2, 2))


def test_looking_changes_nothing():
    net = build_architecture("resnet8", 10, (1, 8, 8)).train()
    net.layer3.eval()
    before, modes = {name: value.clone() for name, value in net.state_dict().items()}, [one.training for one in net.modules()]
    state = torch.get_rng_state()
    for look in (hooks.feeding, hooks.last_linear, hooks.macs):
        look(net, (1, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [one.training for one in net.modules()] == modes and torch.equal(torch.get_rng_state(), state)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in net.modules())


# Architecture: image shape, and the module whose output are the maps of each size.
MAPS = {
    "resnet8": ((3, 16, 16), {16: "layer1", 8: "layer2", 4: "layer3"}),
    "wrn16-2": ((3, 16, 16), {16: "stages.1", 8: "stages.3", 4: "stages.5"}),
    "lenet5-half": ((1, 28, 28), {28: "0", 14: "2", 10: "3", 5: "5"}),
}


@pytest.mark.parametrize("arch", MAPS)
def test_feature_maps_are_the_last_of_each_size(arch):
    shape, expected = MAPS[arch]
    whole, seen = classifier(arch, shape), {}
    parts = dict(whole.net.named_modules())
    for size, name in expected.items():
        parts[name].register_forward_hook(lambda module, inputs, output, size=size: seen.update({(size, size): output}))
    with hooks.feature_maps(whole) as maps:
        for _ in range(2):
            whole(torch.rand(2, *shape))
            assert maps.keys() == seen.keys()
            assert all(torch.equal(maps[size], seen[size]) for size in seen)
    left = [one for module in whole.modules() for one in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())]
    assert len(left) == len(expected)  # those of this test


def test_maps_of_one_place_say_nothing():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    with hooks.feature_maps(net) as maps:
        net(torch.rand(2, 1, 5, 5))
    assert list(maps) == [(3, 3)]


def test_hooks_see_the_passes_of_their_own_thread_only():
    net, images = classifier("resnet8", (1, 8, 8)), torch.rand(2, 1, 8, 8)
    with hooks.batchnorm_inputs(net) as seen:
        other = threading.Thread(target=net, args=(images,))
        other.start()
        other.join()
        assert seen == []
        net(images)
        first = [values for _, values in seen]
        assert len(first) == sum(isinstance(one, nn.BatchNorm2d) for one in net.modules())
        net(images + 1)
        assert len(seen) == len(first) and not torch.equal(seen[0][1], first[0])  # those of the last pass


def test_the_last_of_two_batchnorms_is_that_of_the_features():
    net = sequence(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 3))
    nn.init.constant_(net[4].bias, -1.0)
    assert hooks.feeding(net, (1, 2, 2)) == (net[1], net[4], False)
