"""ResNet-18/34 (arXiv 1512.03385): of small images in the CIFAR form, with a 3x3 stem and without pooling."""

import torch.nn.functional as F
from torch import nn

from ..runtime.errors import UserError
from .pooling import global_mean
from .resnet_cifar import Block
from .stem import stem

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class ResNet(nn.Module):
    """Four stages of 64, 128, 256, 512 channels; images (N,C,H,W) of at least 8 pixels -> logits (N,K)."""

    def __init__(self, depth: int, image_shape, num_classes: int):
        super().__init__()
        self.conv1, self.pool = stem(64, image_shape)
        self.bn1 = nn.BatchNorm2d(64)
        widths, inside = (64, 128, 256, 512), 64
        for stage, (width, blocks) in enumerate(zip(widths, BLOCKS[depth]), 1):
            first = Block(inside, width, 1 if stage == 1 else 2, "B")
            setattr(self, f"layer{stage}", nn.Sequential(first, *(Block(width, width, 1, "B") for _ in range(blocks - 1))))
            inside = width
        self.linear = nn.Linear(512, num_classes)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(global_mean(x))


def build(num_classes: int, image_shape, depth: int):
    """ResNet-``depth`` (18 or 34)."""
    if min(image_shape[1:]) < 8:
        raise UserError(f"resnet{depth}: image shape {tuple(image_shape)} does not fit; it takes 8x8 pixels or more")
    return ResNet(depth, image_shape, num_classes)
