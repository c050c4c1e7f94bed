"""PSAQ-ViT: the entropy of patch similarities by a second formula, what a transformer gives for its patches, and the way down."""

import math
import sys

import numpy as np
import pytest
import torch
from small_method import alone, build
from small_net import classifier, close, wrap
from torch import nn

from dfkd_steps.methods.engines import image_losses, schedules
from dfkd_steps.models import hooks
from dfkd_steps.models.classifier import build_architecture
from dfkd_steps.reporting import listing
from dfkd_steps.runtime.errors import UserError


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    return wrap(build_architecture("vit-mini", 10, (1, 16, 16)), (1, 16, 16), name="vit-mini")


def similarities(features):
    """Cosines (N,P*P) between the patches of each sample, in numpy."""
    features = features.double().numpy()
    unit = features / np.linalg.norm(features, axis=2, keepdims=True)
    return np.stack([(one @ one.T).ravel() for one in unit])


def entropy(features, places=None, windows=1):
    """Differential entropies (N) in numpy, sample by sample; over places, or from the least similarity to the largest."""
    similar = similarities(features).reshape(len(features) // windows, -1)
    places = np.linspace(similar.min(), similar.max(), 10) if places is None else places
    kernels = np.exp(-((places[None, :, None] - similar[:, None, :]) ** 2) / (2 * 0.01**2)) / math.sqrt(2 * math.pi * 0.01**2)
    density = kernels.mean(2) + 1e-4
    return np.trapezoid(-density * np.log(density), places, axis=1)


def test_the_entropy_of_patches_by_a_second_formula():
    features = torch.rand(3, 9, 5, generator=torch.Generator().manual_seed(0)) - 0.3
    np.testing.assert_allclose(image_losses.patch_entropy(features, len(features)).numpy(), entropy(features), rtol=1e-3)
    features.requires_grad_()
    image_losses.patch_entropy(features, len(features)).sum().backward()
    assert features.grad.abs().max() > 0
    same = image_losses.patch_entropy(torch.ones(2, 4, 3), 2)  # all patches alike: nothing to integrate over
    assert same.tolist() == [0.0, 0.0]


def test_the_places_of_the_integral_take_no_gradient():
    """A change of the features by a little, over the places that there were before, is what the gradient says."""
    features, way = (torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(seed)).double() for seed in (0, 1))
    similar = similarities(features)
    places = np.linspace(similar.min(), similar.max(), 10)
    rise = sum(entropy(features + 1e-5 * way, places) - entropy(features - 1e-5 * way, places)) / 2e-5
    features.requires_grad_()
    image_losses.patch_entropy(features, len(features)).sum().backward()
    assert (features.grad * way).sum().item() == pytest.approx(rise, rel=0.01)


def test_the_gradient_of_kernels_is_that_of_their_means():
    places = torch.linspace(-0.2, 0.3, 4).double()
    values = torch.rand(2, 5, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    by_hand = torch.exp(-((places[:, None] - values[:, None]) ** 2) / (2 * 0.1**2)).mean(2)
    torch.testing.assert_close(image_losses._Kernels.apply(values, places, 0.1), by_hand)
    assert torch.autograd.gradcheck(lambda values: image_losses._Kernels.apply(values, places, 0.1), values)


def test_the_roughness_of_images():
    flat, steps = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 1, 4, 4)
    steps[..., 1::2] = 0.4
    assert image_losses.roughness(flat).item() < 1e-5
    assert image_losses.roughness(steps).item() == pytest.approx((0.4 + 0 + 0.4 + 0.4) / 4, abs=1e-5)


def test_patches_are_what_attention_gives_without_the_class_token(transformer):
    images, net = torch.rand(2, 1, 16, 16), transformer.net
    inputs = []
    handles = [block.attn.register_forward_hook(lambda module, given, output: inputs.append(given[0])) for block in net.blocks]
    with torch.no_grad(), hooks.patch_features(net) as patches:
        transformer(images)
        found = patches()
        transformer(images)
        assert len(patches()) == 6  # of the last pass alone
    for one in handles:
        one.remove()
    assert len(found) == 6 and found[0].shape == (2, 16, 32)
    for given, block, one in zip(inputs, net.blocks, found):
        query, key, value = block.attn.qkv(given).view(2, 17, 3, 3, 32).permute(2, 0, 3, 1, 4)
        attended = (query @ key.transpose(2, 3) / math.sqrt(32)).softmax(3) @ value
        close(one, attended.mean(1)[:, 1:].detach(), rtol=1e-3, atol=1e-5)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_layers_of_class_tokens_alone_have_no_patches():
    """CaiT's class token comes in behind the layers over patches, which lose none of their patches to it."""
    cait = pytest.importorskip("timm.models.cait")
    net = cait.Cait(img_size=16, patch_size=4, embed_dim=32, depth=2, depth_token_only=2, num_heads=2, num_classes=3).eval()
    with torch.no_grad(), hooks.patch_features(net) as patches:
        net(torch.rand(2, 3, 16, 16))
        assert [tuple(one.shape) for one in patches()] == [(2, 16, 16)] * 2


def test_patches_of_pytorchs_own_attention_and_of_a_network_without_any():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, tokens):
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]

    net, tokens = Own().eval(), torch.rand(2, 5, 4)
    with torch.no_grad(), hooks.patch_features(net) as patches:
        given = net(tokens)[:, 1:]
        assert torch.equal(patches()[0], given)
    plain = classifier(shape=(1, 32, 32))
    with hooks.patch_features(plain.net) as patches:
        plain(torch.rand(2, 1, 32, 32))
        assert [tuple(one.shape) for one in patches()] == [(2, 64, 64), (2, 64, 32), (2, 64, 16)]


def test_the_windows_of_an_image_have_one_density():
    """A Swin's first block has four windows of 16 patches in each image, its second one window. The mean of the windows'
    entropies would not tell windows that are all alike from those that differ."""
    swin = pytest.importorskip("timm.models.swin_transformer")
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 4, "window_size": 4, "embed_dim": 8, "depths": (1, 1), "num_heads": (2, 2)}
    net = swin.SwinTransformer(**sizes, num_classes=3)
    teacher = wrap(net.eval(), (3, 32, 32), name="swin")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad(), hooks.patch_features(teacher.net) as patches:
        teacher(images)
        first, second = patches()
    assert first.shape == (8, 16, 4) and second.shape == (2, 16, 8)
    with torch.no_grad():
        loss = build("psaq", teacher, onehot=0.0, roughness=0.0).objective(images)
    assert loss.item() == pytest.approx(-(entropy(first, windows=4) + entropy(second)).mean(), rel=1e-3)


@pytest.mark.parametrize("term", ["onehot", "patches", "roughness"])
def test_pixels_bring_each_loss_down_on_a_transformer(term, transformer, monkeypatch):
    def measure(images):
        with torch.no_grad(), hooks.patch_features(transformer.net) as patches:
            logits = transformer(images)
            if term == "patches":
                return -sum(entropy(one).mean() for one in patches())
        if term == "onehot":
            return torch.nn.functional.cross_entropy(logits, targets).item()
        right, down = images.diff(dim=3), images.diff(dim=2)
        return abs((right.square().mean().sqrt() + down.square().mean().sqrt()).item() / 2 - 0.05)

    lost = []
    for lr in (1e-9, 0.05):
        method = build("psaq", transformer, **alone("psaq", term), lr=lr, smooth_to=0.05, batch=8, n=8)
        targets = torch.randint(0, 10, (8,), generator=method.rng(0))
        lost.append(measure(method.batch(0).images))
    assert lost[1] < lost[0] - 0.1 * abs(lost[0])


def test_a_teacher_without_patches_is_one_line():
    flat = wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(UserError, match=r"patches: the teacher has no feature maps, and no attention .* set patches: 0"):
        build("psaq", flat).batch(0)


def test_two_cycles_rise_for_a_fifth_and_fall():
    rates = [schedules.rate("cycles", 2.0, step / 20) for step in range(20)]
    assert rates[:10] == pytest.approx(rates[10:])
    assert rates[:4] == pytest.approx([0.0, 1.0, 2.0, 2 * 0.5 * (1 + math.cos(math.pi / 8))])


def test_without_timm_its_transformer_is_one_line_and_the_list_of_models_goes_on(monkeypatch, capsys):
    for name in ("timm", "timm.models", "timm.models.vision_transformer"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="timm is not installed; run pip install"):
        build_architecture("vit-mini", 10, (1, 16, 16))
    listing.list_models()
    shown = capsys.readouterr().out.splitlines()
    assert any(line.startswith("vit-mini") and " - " in line for line in shown) and any("resnet8 " in line for line in shown)


def test_a_transformer_needs_sides_of_whole_patches():
    with pytest.raises(UserError, match="multiples of 4 pixels"):
        build_architecture("vit-mini", 10, (1, 18, 16))
