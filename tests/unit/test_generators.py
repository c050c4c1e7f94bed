"""Generators: sizes, range, classes, heads, seeds."""

import dataclasses

import pytest
import torch
from small_net import close, wrap
from torch import nn

from dfkd_steps.models.generator import ARCHITECTURES, build_generator, initialize_dcgan


def like(shape=(1, 8, 8), classes=5):
    return wrap(nn.Identity(), shape, classes).description


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


SIDES = {8: 4, 28: 7, 32: 8, 64: 8, 224: 7, 1: 1, 5: 3, 9: 5, 33: 5, 100: 7}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_square_images_of_any_size(side, arch):
    made = build_generator(like((3, side, side)), latent=4, width=2, arch=arch, seed=0)
    images = made(made.draw(3, draw())[0])
    assert images.shape == (3, 3, side, side) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0
    assert made.start == (SIDES[side],) * 2 and SIDES[side] * 2 ** len(made.stages) >= side


@pytest.mark.parametrize(("shape", "start"), [((1, 20, 5), (5, 2)), ((2, 7, 40), (1, 5)), ((3, 24, 32), (6, 8))])
def test_oblong_images(shape, start):
    made = build_generator(like(shape), latent=4, width=2, arch="cmi", seed=0)
    assert made(torch.randn(2, 4)).shape == (2, *shape) and made.start == start


def test_larger_images_take_more_stages():
    stages = [
        len(build_generator(like((1, side, side)), latent=4, width=4, arch="cmi", seed=0).stages) for side in (8, 16, 32, 64, 224)
    ]
    assert stages == [1, 1, 2, 3, 5]


def test_the_seed_alone_decides_the_weights():
    def weights(seed):
        return torch.cat(
            [one.flatten() for one in build_generator(like(), latent=4, width=4, arch="cmi", seed=seed).parameters()]
        )

    torch.manual_seed(5)
    before, one = torch.get_rng_state(), weights(3)
    assert torch.equal(torch.get_rng_state(), before)  # nor does it move anybody else's draws
    torch.manual_seed(6)
    assert torch.equal(weights(3), one) and not torch.equal(weights(4), one)


def test_draws_repeat_and_are_normal():
    made = build_generator(like(), latent=50, width=2, arch="cmi", seed=0)
    latent, labels = made.draw(400, draw())
    assert labels is None and abs(latent.mean()) < 0.03 and abs(latent.std() - 1) < 0.03
    assert torch.equal(latent, made.draw(400, draw())[0]) and not torch.equal(latent, made.draw(400, draw(1))[0])


def test_a_conditional_generator_draws_its_own_classes_and_heeds_them():
    made = build_generator(like(classes=5), latent=4, width=4, arch="cmi", classes=(1, 4), seed=0).eval()
    latent, labels = made.draw(300, draw())
    counts = labels.bincount(minlength=5).tolist()
    assert counts[0] == counts[2] == counts[3] == 0 and min(counts[1], counts[4]) > 110
    assert made.dense.in_features == 4 + 5
    one, four = made(latent[:2], torch.tensor([1, 1])), made(latent[:2], torch.tensor([4, 4]))
    assert not torch.allclose(one, four)


def test_a_head_with_batchnorm_has_the_mean_and_std_of_the_data():
    described = dataclasses.replace(like((3, 16, 16)), mean=(0.2, 0.5, 0.6), std=(0.02, 0.05, 0.03))
    made = build_generator(described, latent=8, width=8, arch="dfad", seed=0)
    images = made(torch.randn(200, 8, generator=draw()))
    assert torch.allclose(images.mean((0, 2, 3)), torch.tensor(described.mean), atol=1e-3)
    assert torch.allclose(images.std((0, 2, 3)), torch.tensor(described.std), rtol=0.02)


def test_a_head_with_batchnorm_clips_and_lets_the_gradient_through():
    described, inner = dataclasses.replace(like(), mean=(0.5,), std=(5.0,)), []
    made = build_generator(described, latent=4, width=4, arch="dfad", seed=0)
    made.head_norm.register_forward_hook(lambda module, inputs, output: inner.append(output))
    latent = torch.randn(6, 4, generator=draw(), requires_grad=True)
    images = made(latent)
    unclipped = inner[0] * 5 + 0.5
    assert torch.equal(images, unclipped.clamp(0, 1))
    outside = ((unclipped < 0) | (unclipped > 1)).float()
    assert outside.mean() > 0.5
    (found,) = torch.autograd.grad((images * outside).square().sum(), latent, retain_graph=True)
    # The slope of the square at the clipped image, handed on to the image before it is clipped.
    (wanted,) = torch.autograd.grad((unclipped * outside * 2 * images.detach()).sum(), latent)
    assert found.abs().max() > 0
    close(found, wanted)


def test_sample_takes_no_gradient_and_is_each_image_for_itself():
    made = build_generator(like(), latent=4, width=4, arch="cmi", classes=(0, 2), seed=0).eval()
    images, labels = made.sample(5, draw())
    assert not images.requires_grad and len(labels) == 5
    latent, again = made.draw(5, draw())
    assert torch.equal(labels, again)
    close(made(latent[3:4], labels[3:4]), images[3:4])  # eval mode: not of the batch


# eps of all BatchNorms behind the first, tanh, (scale, shift) of the last one or None, channels of the first maps, activation
# behind them, bias of the dense layer, bias of the convolutions: as in each public code.
PUBLISHED = {
    "cmi": (1e-5, False, None, 8, False, True, False),
    "cmi-large": (1e-5, False, None, 16, False, True, False),
    "dafl": (0.8, True, (False, False), 8, False, True, True),
    "dfad": (1e-5, True, (False, False), 8, False, True, True),
    "dfad-segmentation": (1e-5, True, None, 32, False, True, False),
    "gdfd": (0.8, True, (True, False), 8, True, False, False),
    "zskt": (1e-5, False, (True, True), 8, False, True, True),
}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_generator_of_each_publication(arch):
    made = build_generator(like((3, 32, 32)), latent=4, width=8, arch=arch, seed=0)
    norms = [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
    last, seen = made.head_norm, {}
    learnt = last and tuple(one is not None and one.requires_grad for one in (last.weight, last.bias))
    made.first_activation.register_forward_hook(lambda module, inputs, output: seen.update(first=output))
    made.last.register_forward_hook(lambda module, inputs, output: seen.update(last=output * 100))
    images = made(torch.randn(50, 4, generator=draw()))
    tanh = arch_tanh(made, seen["last"] / 100)
    found = (
        made.stages[0][1].eps, tanh, learnt, made.dense.out_features // 64, bool((seen["first"] < 0).float().mean() < 0.001),
        made.dense.bias is not None, made.stages[0][0].bias is not None,
    )  # fmt: skip
    eps = {one.eps for one in norms if one is not made.norm and one is not last}
    rectified = isinstance(made.first_activation, nn.LeakyReLU)
    assert found[:4] == PUBLISHED[arch][:4] and rectified == PUBLISHED[arch][4] and found[5:] == PUBLISHED[arch][5:]
    assert made.norm.eps == 1e-5 and eps == {PUBLISHED[arch][0]} and images.shape == (50, 3, 32, 32)
    if last is not None:
        assert last.eps == (0.8 if arch == "gdfd" else 1e-5)
    assert [stage[2].negative_slope for stage in made.stages] == [0.2, 0.2]
    assert [stage[0].out_channels for stage in made.stages] == ([16, 8] if arch == "dfad-segmentation" else [8, 4])


def arch_tanh(made, values):
    """Whether the head puts its input through a tanh: whether values far out make a difference."""
    seen = []
    if made.head_norm is None:
        return made.tanh
    handle = made.head_norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    made(torch.randn(50, 4, generator=draw()) * 100)
    handle.remove()
    return bool(seen[0].abs().max() <= 1) and made.tanh


def test_dcgan_weights():
    made = build_generator(like((3, 32, 32)), latent=50, width=32, arch="cmi", seed=0)
    initialize_dcgan(made, draw())
    for layer in (made.dense, made.stages[0][0], made.last):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1) and layer.weight.mean().abs() < 0.003
        assert layer.bias is None or layer.bias.abs().max() == 0
    scales = torch.cat([made.norm.weight, *(stage[1].weight for stage in made.stages)])
    assert scales.mean().item() == pytest.approx(1, abs=0.01) and scales.std().item() == pytest.approx(0.02, rel=0.3)
    assert made.norm.bias.abs().max() == 0


def test_glorots_weights_of_ls_gdfd():
    """Uniform up to the root of 6 over what enters and what leaves a layer; the last bias is 0."""
    net = build_generator(like((3, 32, 32)), latent=16, width=8, arch="gdfd", classes=range(5), seed=0)
    for layer in (net.dense, net.stages[0][0], net.last):
        outside, inside = layer.weight.shape[:2]
        most = (6 / ((inside + outside) * layer.weight[0, 0].numel())) ** 0.5
        assert layer.weight.abs().max().item() == pytest.approx(most, rel=0.05) and layer.weight.abs().max() <= most
        assert layer.weight.std().item() == pytest.approx(most / 3**0.5, rel=0.1)
    assert not net.last.bias.any() and not net.head_norm.bias.requires_grad and net.first_activation.negative_slope == 0.2
