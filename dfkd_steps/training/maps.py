"""What a network of segmentation says of stored images (N,C,H,W): label maps (N,H,W) uint8."""

import numpy as np
import torch

from ..runtime import passes
from .predict import to_float


def predict(teacher, stored, device, rows: int = 0) -> np.ndarray:
    """The class of each pixel of stored images by a network; ``rows`` images at a time, or as many as memory allows. ->
    (N,H,W) uint8, numpy."""
    parts = torch.from_numpy(np.ascontiguousarray(stored)).split(rows or passes.passed_by(teacher.description))
    with torch.no_grad():
        classes = [teacher(to_float(part.to(device))).argmax(1).to(torch.uint8).cpu() for part in parts]
    return torch.cat(classes).numpy()


def confidence(teacher, stored, device, rows: int) -> np.ndarray:
    """The teacher's largest probability, mean over the pixels of each stored image; ``rows`` images at a time. -> (N)."""
    parts = torch.from_numpy(np.ascontiguousarray(stored)).split(rows)
    with torch.no_grad():
        means = [teacher(to_float(part.to(device))).float().softmax(1).amax(1).mean((1, 2)).cpu() for part in parts]
    return torch.cat(means).numpy()
