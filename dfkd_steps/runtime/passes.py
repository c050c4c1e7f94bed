"""How many images go through a network together that no training step prescribes, also where it gives logits for each pixel.

Apart from ``memory``, whose code is in the key of every data set.
"""

from . import memory

# Logits that take the room of a pixel value of an image. At 2 GiB a network takes 60 to 300 bytes for each of 3 million pixel
# values (``memory.DEFAULT``), and who measures 12 million logits holds some ten tensors of 4 bytes each for them: those of two
# networks, their softmax, the terms of the KL.
LOGITS = 4


def passed(image_shape, pixel_logits: int = 0) -> int:
    """Images (C,H,W) of a forward pass. pixel_logits: how many logits a segmentation network gives for each pixel, as a rule more
    than the image has channels; 0 for a classifier, of which the size of the image alone counts."""
    channels, *size = image_shape
    return memory.passed((max(channels, -(-pixel_logits // LOGITS)), *size))


def passed_by(like) -> int:
    """``passed`` of what says what it is for: the ``Description`` of a network or the ``Layout`` of a transfer set."""
    return passed(like.image_shape, like.num_classes if like.dense else 0)
