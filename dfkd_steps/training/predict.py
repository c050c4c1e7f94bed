"""A network's logits on stored images."""

import torch

from ..runtime import memory


def predict(teacher, stored, device, rows: int = 0):
    """The teacher's logits (N,K) on stored images, as float32 numpy; ``rows`` at a time, or as many as memory allows."""
    rows = rows or memory.passed(stored.shape[1:])
    with torch.no_grad():
        parts = [teacher(to_float(torch.from_numpy(part).to(device))) for part in batches(stored, rows)]
    return torch.cat(parts).float().cpu().numpy()


def batches(array, rows: int):
    """``array`` in pieces of ``rows``."""
    return [array[start : start + rows] for start in range(0, len(array), rows)]


def to_float(images):
    """Stored images (N,C,H,W), uint8 or float, as float32 in [0,1], channels_last."""
    scaled = images.float().div_(255) if images.dtype == torch.uint8 else images.float()
    return scaled.contiguous(memory_format=torch.channels_last)
