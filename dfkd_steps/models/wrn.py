"""Wide residual networks, pre-activation (Zagoruyko & Komodakis 2016, arXiv 1605.07146)."""

import torch.nn.functional as F
from torch import nn

from ..runtime.errors import UserError
from .pooling import global_mean
from .stem import stem


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.shortcut = None if inside == outside else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x):
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        # Where the width changes, the shortcut starts behind the shared activation.
        return out + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-depth-widen: three stages of 16k, 32k, 64k channels; images (N,C,H,W) of at least 8 pixels -> logits (N,K)."""

    def __init__(self, depth: int, widen: int, image_shape, num_classes: int):
        super().__init__()
        blocks, widths = (depth - 4) // 6, (16, 16 * widen, 32 * widen, 64 * widen)
        self.conv1, self.pool = stem(16, image_shape)
        self.stages = nn.Sequential(
            *(
                Block(widths[stage - 1] if block == 0 else widths[stage], widths[stage], 2 if stage > 1 and block == 0 else 1)
                for stage in (1, 2, 3)
                for block in range(blocks)
            )
        )
        self.bn = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        x = F.relu(self.bn(self.stages(self.pool(self.conv1(x)))))
        return self.fc(global_mean(x))


def build(num_classes: int, image_shape, depth: int, widen: int):
    """WRN-``depth``-``widen``."""
    if min(image_shape[1:]) < 8:
        raise UserError(f"wrn{depth}-{widen}: image shape {tuple(image_shape)} does not fit; it takes 8x8 pixels or more")
    return WideResNet(depth, widen, image_shape, num_classes)
