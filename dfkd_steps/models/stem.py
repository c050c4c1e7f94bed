"""How a network begins: a 3x3 convolution for small images, and for large ones what ImageNet's ResNets have."""

from torch import nn

LARGE = 96  # pixels of the smaller side from which on an image is large


def stem(width: int, image_shape) -> tuple[nn.Conv2d, nn.Module]:
    """The first convolution, images (N,C,H,W) of ``image_shape`` (C,H,W) -> (N,width,H,W), and what follows its activation.

    Of large images 7x7 at stride 2, then the largest of 3x3 pixels at stride 2 (He et al. 2016, arXiv 1512.03385, table 1), so
    that stages work on a quarter of the height and width: a sixteenth of the operations.
    """
    if min(image_shape[1:]) >= LARGE:
        return nn.Conv2d(image_shape[0], width, 7, 2, 3, bias=False), nn.MaxPool2d(3, 2, 1)
    return nn.Conv2d(image_shape[0], width, 3, 1, 1, bias=False), nn.Identity()
