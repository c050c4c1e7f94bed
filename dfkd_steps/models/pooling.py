"""2x2 max-pooling of few maps, several times faster on a CPU than torch's, which works through 16 maps at a time."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable


class NarrowMaxPool2d(nn.Module):
    """``nn.MaxPool2d(2)`` for images (N,C,H,W) of even height and width; of equal pixels the gradient goes to one."""

    def forward(self, images):
        """The largest of each 2x2 pixels, (N,C,H/2,W/2)."""
        return _Largest.apply(images) if images.device.type == "cpu" else F.max_pool2d(images, 2)


class _Largest(torch.autograd.Function):
    """Whole rows are compared, then columns: with the channels last these are long runs of memory."""

    @staticmethod
    def forward(ctx, images):
        rows = torch.maximum(images[:, :, ::2], images[:, :, 1::2])
        largest = torch.maximum(rows[..., ::2], rows[..., 1::2])
        ctx.save_for_backward(images, rows, largest)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        images, rows, largest = ctx.saved_tensors
        across, down = torch.empty_like(rows), torch.empty_like(images)
        left = gradient * (rows[..., ::2] >= largest)
        across[..., ::2], across[..., 1::2] = left, gradient - left
        upper = across * (images[:, :, ::2] >= images[:, :, 1::2])
        down[:, :, ::2], down[:, :, 1::2] = upper, across - upper
        return down
