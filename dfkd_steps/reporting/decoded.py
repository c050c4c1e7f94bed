"""Image files as an array whose rows are decoded when they are read, so that a folder may be larger than the memory."""

from pathlib import Path

import numpy as np

from ..datasets import readers


class Decoded:
    """Images (N,C,H,W) uint8 of N files, of which none is kept: ``images[2:5]`` decodes three.

    ``fit``: as ``readers.image`` takes it. Reading raises UserError for a file that is no image.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, paths: list[Path], image_shape, fit: str):
        self.paths, self.fit, self.shape = paths, fit, (len(paths), *image_shape)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, rows: slice) -> np.ndarray:
        images = np.empty((len(self.paths[rows]), *self.shape[1:]), self.dtype)
        for image, path in zip(images, self.paths[rows]):
            image[:] = readers.image(path, self.shape[1:], self.fit)
        return images
