"""LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling, as data-free distillation uses it."""

from torch import nn

from ..runtime.errors import UserError
from .pooling import NarrowMaxPool2d


def build(num_classes: int, image_shape, width: float = 1.0, form: str = "dense"):
    """LeNet-5 at ``width`` times 6/16 maps and 120/84 units, for images of 28 or 32 pixels (28 are padded by 2).

    form 'dense': conv, conv, fc 120, fc 84, fc K (61,706 parameters at width 1, one channel, K = 10).
    form 'conv': the 32x32 form, whose third 5x5 convolution of 120 maps replaces the first dense layer.
    """
    channels, height, sides = image_shape[0], image_shape[1], set(image_shape[1:])
    if sides not in ({28}, {32}):
        raise UserError(f"lenet5: image shape {tuple(image_shape)} does not fit; it takes 28x28 or 32x32 pixels")
    maps, units = (int(6 * width), int(16 * width)), (int(120 * width), int(84 * width))
    # Pooling comes before the ReLU: the same function, at a quarter of the work.
    layers = [
        nn.Conv2d(channels, maps[0], 5, padding=2 if height == 28 else 0), NarrowMaxPool2d(), nn.ReLU(),
        nn.Conv2d(maps[0], maps[1], 5), nn.MaxPool2d(2), nn.ReLU(),
    ]  # fmt: skip
    if form == "conv":
        layers += [nn.Conv2d(maps[1], units[0], 5), nn.ReLU(), nn.Flatten()]
    else:
        layers += [nn.Flatten(), nn.Linear(maps[1] * 25, units[0]), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(units[0], units[1]), nn.ReLU(), nn.Linear(units[1], num_classes))
