"""A vector for each class: of a file that the user gives; or random orthogonal ones, or one-hot ones, which say nothing of it."""

import zipfile
from pathlib import Path

import numpy as np
import torch

from ...runtime.errors import UserError, reading

SIZE = 512  # of an orthogonal vector where there are not more classes, as of CLIP ViT-B/32
LARGEST = 1 << 28  # bytes of a file


def build(kind: str, file: str, classes: int, rng):
    """Embeddings (K,E) float32, on the device of ``rng``: the rows of ``file``, or where there is none of a ``kind``,
    'orthogonal' or 'one-hot'."""
    if file:
        return read(file, classes).to(rng.device)
    if kind == "one-hot":
        return torch.eye(classes, device=rng.device)
    drawn = torch.randn(max(SIZE, classes), classes, generator=rng, device=rng.device)
    return torch.linalg.qr(drawn)[0].T.contiguous()


def read(file: str, classes: int):
    """The array (K,E) of an .npy file, or the only one of an .npz file; raises UserError where it is no such array."""
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{path}: no such file; put the label embeddings there or correct embedding_file")
    if path.stat().st_size > LARGEST:
        raise UserError(
            f"{path}: is larger than {LARGEST >> 20} MiB, too large for one vector per class; give shape (classes, size)"
        )
    with reading(path, "is damaged or not an .npy or .npz file", "write it again with numpy.save"):
        rows = _only(path) if zipfile.is_zipfile(path) else np.load(path, mmap_mode="r", allow_pickle=False)
        if rows.dtype.kind not in "fiu" or rows.ndim != 2 or rows.shape[0] != classes or not rows.shape[1]:
            raise UserError(f"{path}: holds {rows.dtype} of shape {rows.shape}; give numbers of shape ({classes}, size)")
        rows = np.array(rows, np.float32)
    if not np.isfinite(rows).all():
        raise UserError(f"{path}: contains numbers that are not finite; recompute the embeddings")
    return torch.from_numpy(rows)


def _only(path):
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) != 1 or entries[0].file_size > LARGEST:
            raise UserError(f"{path}: contains {len(entries)} arrays; give a file with one array of shape (classes, size)")
        with archive.open(entries[0]) as member:
            return np.lib.format.read_array(member, allow_pickle=False)
