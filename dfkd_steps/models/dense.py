"""What segmentation networks give, as logits of the size of the images."""

import torch.nn.functional as F

MULTIPLE = {"smp": 32}  # builder -> what has to divide the sides of images that its bare networks take


def logits(net, images, multiple: int = 1):
    """The logits (N,K,H,W) of a network on images (N,C,H,W).

    Takes the part "out" of what torchvision's networks give, and enlarges maps that are smaller than the images. multiple:
    the network takes sides that this number divides; images are padded below and on the right by their edge.
    """
    height, width = images.shape[2:]
    down, right = -height % multiple, -width % multiple
    padded = F.pad(images, (0, right, 0, down), mode="replicate") if down or right else images
    outputs = net(padded)
    maps = outputs["out"] if isinstance(outputs, dict) else outputs
    if maps.ndim == 4 and maps.shape[2:] != padded.shape[2:]:
        maps = F.interpolate(maps, size=padded.shape[2:], mode="bilinear", align_corners=False)
    return maps[..., :height, :width]
