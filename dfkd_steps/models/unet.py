"""A compact U-Net (Ronneberger et al. 2015, arXiv 1505.04597) with BatchNorm: strides instead of pooling.

It has one convolution per stage on the way up, and upsamples logits of half the resolution."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from ..runtime.errors import UserError

LEAST = 16  # pixels of a side: four halvings


def _block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


class UNet(nn.Module):
    """Four stages of ``width`` x 1, 2, 4, 8 channels at a half to a sixteenth of the resolution; images (N,C,H,W) of at least
    16 pixels a side -> logits (N,K,H,W)."""

    def __init__(self, width: int, channels: int, num_classes: int):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(
            nn.Sequential(_block(inside, outside, 2), _block(outside, outside))
            for inside, outside in itertools.pairwise([channels, *widths])
        )
        self.up = nn.ModuleList(
            _block(deeper + outside, outside) for outside, deeper in reversed(list(itertools.pairwise(widths)))
        )
        self.classifier = nn.Conv2d(width, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images):
        maps, kept = images, []
        for stage in self.down:
            maps = stage(maps)
            kept.append(maps)
        for stage, beside in zip(self.up, reversed(kept[:-1])):
            larger = F.interpolate(maps, size=beside.shape[2:], mode="bilinear", align_corners=False)
            maps = stage(torch.cat([larger, beside], 1))
        return F.interpolate(self.classifier(maps), size=images.shape[2:], mode="bilinear", align_corners=False)


def build(num_classes: int, image_shape, width: int) -> nn.Module:
    """The network; raises UserError for images that four halvings leave nothing of."""
    channels, *sides = image_shape
    if min(sides) < LEAST:
        raise UserError(f"unet: image shape {tuple(image_shape)} does not fit; it takes sides of {LEAST} pixels or more")
    return UNet(width, channels, num_classes)
