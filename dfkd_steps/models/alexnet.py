"""AlexNet in the CIFAR form of zero-shot distillation (arXiv 1905.08114): 1.66 M parameters, 0.42 M at half width."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from ..runtime.errors import UserError


class _Normalise(torch.autograd.Function):
    """y = x u^-3/4, u = 1 + 1e-4 N(x^2), N the sum over five neighbouring channels: a 1x1 convolution with a band of ones.

    The gradient is written down, dx = g u^-3/4 - 1.5e-4 x N(g x u^-7/4): autograd's takes twice the time on a CPU. Not
    nn.LocalResponseNorm: that averages with avg_pool3d, which is slower still and has no deterministic gradient on a GPU.
    """

    @staticmethod
    def forward(ctx, x):
        channels = x.shape[1]
        band = x.new_ones(channels, channels).tril(2).triu(-2)[:, :, None, None]
        near = F.conv2d(x * x, band).float()  # float: bf16 loses 1e-4 beside 1
        root = near.mul_(1e-4).add_(1).rsqrt_()
        scale = (root * root.sqrt()).to(x.dtype)
        ctx.save_for_backward(x, band, root, scale)
        return x * scale

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, band, root, scale = ctx.saved_tensors
        steep = root.square().mul_(scale).to(x.dtype)
        near = F.conv2d(g * x * steep, band)
        return torch.addcmul(near.mul_(x).mul_(-1.5e-4), g, scale)


class LocalResponseNorm(nn.Module):
    """a / (1 + 1e-4 s)^0.75, s = sum of a^2 over five neighbouring channels; the constants of the method's public code."""

    def forward(self, x):
        return _Normalise.apply(x)


def build(num_classes: int, image_shape, width: float = 1.0):
    """Five convolutions with LRN and BatchNorm, fc 512 and 256 with dropout; every width times ``width``."""
    if min(image_shape[1:]) < 16:
        raise UserError(
            f"alexnet: image shape {tuple(image_shape)} does not fit; its three pooling layers need 16x16 pixels or more"
        )
    c1, c2, c3, c4, c5, f1, f2 = (int(width * n) for n in (48, 128, 192, 192, 128, 512, 256))
    sides = [image_shape[1], image_shape[2]]
    for _ in range(3):
        sides = [(side - 1) // 2 for side in sides]  # a 3x3 pool at stride 2
    return nn.Sequential(
        nn.Conv2d(image_shape[0], c1, 5, padding=2), nn.ReLU(), LocalResponseNorm(), nn.MaxPool2d(3, 2), nn.BatchNorm2d(c1),
        nn.Conv2d(c1, c2, 5, padding=2), nn.ReLU(), LocalResponseNorm(), nn.MaxPool2d(3, 2), nn.BatchNorm2d(c2),
        nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(c3),
        nn.Conv2d(c3, c4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(c4),
        nn.Conv2d(c4, c5, 3, padding=1), nn.MaxPool2d(3, 2), nn.ReLU(), nn.BatchNorm2d(c5),
        nn.Flatten(),
        nn.Linear(c5 * sides[0] * sides[1], f1), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(f1),
        nn.Linear(f1, f2), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(f2),
        nn.Linear(f2, num_classes),
    )  # fmt: skip
