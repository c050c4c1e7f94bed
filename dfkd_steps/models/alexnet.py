"""AlexNet in the CIFAR form of zero-shot distillation (arXiv 1905.08114): 1.66 M parameters, 0.42 M at half width."""

import torch.nn.functional as F
from torch import nn

from ..errors import UserError


class LocalResponseNorm(nn.Module):
    """a / (1 + 1e-4 s)^0.75, s = sum of a^2 over five neighbouring channels; the constants of the method's public code.

    Not nn.LocalResponseNorm: that averages with avg_pool3d, which has no deterministic gradient on a GPU.
    """

    def forward(self, x):
        channels, squares = x.shape[1], F.pad(x.float().square(), (0, 0, 0, 0, 2, 2))  # float: bf16 loses 1e-4 beside 1
        near = sum(squares[:, start : start + channels] for start in range(5))
        return (x * (1 + 1e-4 * near) ** -0.75).to(x.dtype)


def build(num_classes: int, image_shape, width: float = 1.0):
    """Five convolutions with LRN and BatchNorm, fc 512 and 256 with dropout; every width times ``width``."""
    if min(image_shape[1:]) < 16:
        raise UserError(f"alexnet: image shape {tuple(image_shape)} does not fit; its three pools take 16x16 pixels or more")
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
