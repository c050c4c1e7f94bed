"""VGG-11/19 with BatchNorm in the CIFAR form: one linear classifier behind five pools (arXiv 1409.1556)."""

from torch import nn

from ..runtime.errors import UserError
from .pooling import global_mean

STAGES = {11: (1, 1, 2, 2, 2), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Images (N,C,H,W) of at least 32 pixels -> logits (N,K)."""

    def __init__(self, depth: int, channels: int, num_classes: int):
        super().__init__()
        layers, inside = [], channels
        for width, convolutions in zip(WIDTHS, STAGES[depth]):
            for _ in range(convolutions):
                layers += [nn.Conv2d(inside, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                inside = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inside, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                nn.init.zeros_(module.bias)

    def forward(self, x):
        return self.classifier(global_mean(self.features(x)))


def build(num_classes: int, image_shape, depth: int):
    """VGG-``depth`` (11 or 19)."""
    if min(image_shape[1:]) < 32:
        raise UserError(
            f"vgg{depth}: image shape {tuple(image_shape)} does not fit; its five pooling layers need 32x32 pixels or more"
        )
    return VGG(depth, image_shape[0], num_classes)
