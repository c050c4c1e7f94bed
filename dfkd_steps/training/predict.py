"""A network's logits on stored images."""

import math

import torch

MOST_ROWS, MOST_VALUES = 1000, 1000 * 3 * 32 * 32  # images and pixel values of a pass without training


def rows_at_once(image_shape) -> int:
    """Images (C,H,W) of a forward pass without training: of large ones fewer, as their feature maps take memory."""
    return max(1, min(MOST_ROWS, MOST_VALUES // math.prod(image_shape)))


def predict(teacher, stored, device):
    """The teacher's logits (N,K) on stored images (N,C,H,W), as float32 numpy; ``rows_at_once`` at a time."""
    with torch.no_grad():
        pieces = batches(stored, rows_at_once(stored.shape[1:]))
        parts = [teacher(to_float(torch.from_numpy(part).to(device))) for part in pieces]
    return torch.cat(parts).float().cpu().numpy()


def batches(array, rows: int):
    """``array`` in pieces of ``rows``."""
    return [array[start : start + rows] for start in range(0, len(array), rows)]


def to_float(images):
    """Stored images (N,C,H,W), uint8 or float, as float32 in [0,1], channels_last."""
    scaled = images.float().div_(255) if images.dtype == torch.uint8 else images.float()
    return scaled.contiguous(memory_format=torch.channels_last)
