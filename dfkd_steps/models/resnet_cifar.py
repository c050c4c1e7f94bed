"""CIFAR ResNets of depth 6n+2 (He et al. 2016, arXiv 1512.03385, sec. 4.2); names of layers as in the common public port."""

import torch.nn.functional as F
from torch import nn

from ..runtime.errors import UserError
from .pooling import global_mean
from .stem import stem


class Shortcut(nn.Module):
    """Option A: every second pixel, and zeros for the new channels. No parameters."""

    def __init__(self, added: int):
        super().__init__()
        self.added = added

    def forward(self, x):
        # Not by slices, whose gradient has its channels in another order than all others.
        return F.pad(F.avg_pool2d(x, 1, 2), (0, 0, 0, 0, self.added // 2, self.added // 2))


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int, option: str):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        if stride == 1:
            self.shortcut = nn.Sequential()
        elif option == "A":
            self.shortcut = Shortcut(outside - inside)
        else:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages of 16, 32, 64 channels; images (N,C,H,W) of at least 8 pixels -> logits (N,K)."""

    def __init__(self, depth: int, option: str, image_shape, num_classes: int):
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1, self.pool = stem(16, image_shape)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1, option)
        self.layer2 = self._stage(16, 32, blocks, 2, option)
        self.layer3 = self._stage(32, 64, blocks, 2, option)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(inside, outside, blocks, stride, option):
        return nn.Sequential(
            Block(inside, outside, stride, option), *(Block(outside, outside, 1, option) for _ in range(blocks - 1))
        )

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(global_mean(x))


def build(num_classes: int, image_shape, depth: int, option: str):
    """ResNet-``depth`` (8, 20, 32, 56) with shortcuts of option 'A' or 'B'."""
    if min(image_shape[1:]) < 8:
        raise UserError(f"resnet{depth}: image shape {tuple(image_shape)} does not fit; it takes 8x8 pixels or more")
    return ResNet(depth, option, image_shape, num_classes)
