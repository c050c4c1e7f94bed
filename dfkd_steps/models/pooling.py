"""Pooling at the speed of a CPU: means over all places, whose gradient keeps the channels last, and 2x2 max-pooling of few maps,
several times faster than torch's, which works through 16 maps at a time."""

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


def global_mean(maps):
    """The mean over the places of feature maps (N,C,H,W), before a classifier. -> (N,C)."""
    # The gradient of ``mean`` is written out with places before channels, and a channels-last network goes on with it at an
    # eighth of its speed; that of a sum is one number a channel.
    return maps.sum((2, 3)) / maps.shape[2:].numel()


class _PlaceMeans(torch.autograd.Function):
    """``place_means`` with a gradient whose channels come last: it is added to that of the layers behind the maps."""

    @staticmethod
    def forward(ctx, maps):
        ctx.size, ctx.dtype = maps.shape, maps.dtype
        # torch adds up bf16 in float32; asked for a sum in float32 it writes all maps out so first, at an eighth of the speed.
        return maps.sum((2, 3)).float() / maps.shape[2:].numel()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        number, channels, height, width = ctx.size
        each = (gradient / (height * width)).to(ctx.dtype)
        return each[:, None, None].expand(number, height, width, channels).contiguous().permute(0, 3, 1, 2)


def place_means(maps):
    """``global_mean`` in float32, of maps (N,C,H,W) that other layers read too; of bf16 maps to the eight bits these have.
    -> (N,C)."""
    return _PlaceMeans.apply(maps)
