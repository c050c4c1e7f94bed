"""Images of another data set made to fit a teacher."""

import torch
import torch.nn.functional as F

from ...datasets.cropping import middle


def fit(images, shape):
    """Images (N,C,H,W) in [0,1] made (N, *shape): grey by luma, colour by repetition; the middle of images of another form,
    antialiased bilinear resizing."""
    channels, height, width = shape
    if images.shape[1] != channels:
        luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        grey = (images * luma).sum(1, keepdim=True) if images.shape[1] == 3 else images
        images = grey.expand(-1, channels, -1, -1)
    if images.shape[2:] != (height, width):
        kept = [max(1, round(side)) for side in middle(images.shape[2:], (height, width))]
        top, left = ((have - keep) // 2 for have, keep in zip(images.shape[2:], kept))
        images = images[:, :, top : top + kept[0], left : left + kept[1]]
        images = F.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return images.clamp(0, 1)
