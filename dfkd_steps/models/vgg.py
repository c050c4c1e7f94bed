"""VGG-11/19 with BatchNorm in the CIFAR form of the data-free literature: one linear classifier on the mean of the last maps
(arXiv 1409.1556; pools, initial weights and sizes of maps as in the public code of CMI, arXiv 2105.08584)."""

from torch import nn

from ..runtime.errors import UserError
from .pooling import global_mean

STAGES = {11: (1, 1, 2, 2, 2), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
LEAST = 8  # pixels of the smaller side: three pools leave one


class VGG(nn.Module):
    """Images (N,C,H,W) of at least ``LEAST`` pixels -> logits (N,K). ``pools``: of the stages, the first so many end in one."""

    def __init__(self, depth: int, channels: int, num_classes: int, pools: int):
        super().__init__()
        layers, inside = [], channels
        for stage, (width, convolutions) in enumerate(zip(WIDTHS, STAGES[depth])):
            for _ in range(convolutions):
                layers += [nn.Conv2d(inside, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                inside = width
            if stage < pools:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inside, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, 0.0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x):
        return self.classifier(global_mean(self.features(x)))


def build(num_classes: int, image_shape, depth: int):
    """VGG-``depth`` (11 or 19). Three pools below 64 pixels and four from there on, as published, so that the last maps are 4x4;
    from 128 on five, as VGG has for ImageNet."""
    side = min(image_shape[1:])
    if side < LEAST:
        raise UserError(
            f"vgg{depth}: image shape {tuple(image_shape)} does not fit; its three pooling layers need {LEAST}x{LEAST} pixels"
        )
    return VGG(depth, image_shape[0], num_classes, 3 + (side >= 64) + (side >= 128))
