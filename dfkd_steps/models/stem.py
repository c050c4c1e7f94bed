"""How a network begins: a 3x3 convolution for small images, and for large ones what ImageNet's ResNets have."""

import torch.nn.functional as F
from torch import nn

LARGE = 96  # pixels of the smaller side from which on an image is large


class Stem(nn.Conv2d):
    """The first convolution; images (N,channels,H,W) -> (N,width,H,W), without activation.

    Of large images 7x7 at stride 2 (He et al. 2016, arXiv 1512.03385, table 1); ``pooled`` halves once more behind the
    activation, so that stages work on a quarter of the height and width: a sixteenth of the operations.
    """

    def __init__(self, channels: int, width: int, image_shape):
        self.large = min(image_shape[1:]) >= LARGE
        kernel, stride, padding = (7, 2, 3) if self.large else (3, 1, 1)
        super().__init__(channels, width, kernel, stride, padding, bias=False)

    def pooled(self, x):
        """The largest of 3x3 pixels at stride 2 where images are large, else ``x`` itself."""
        return F.max_pool2d(x, 3, 2, 1) if self.large else x
