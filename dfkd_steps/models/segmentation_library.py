"""Segmentation networks of torchvision and of segmentation-models-pytorch (smp), built by name, and the check that any network,
a factory's too, gives maps."""

import torch
import torchvision
from torch import nn

from ..runtime.errors import UserError, let_through, one_line, similar
from . import names
from .classifier import Classifier


def build(description) -> nn.Module:
    """The bare network of a foreign description, without its weights (nothing is downloaded)."""
    if description.builder == names.SMP:
        return _smp(description)
    known = torchvision.models.list_models(module=torchvision.models.segmentation)
    if description.builder != "torchvision" or description.name not in known:
        raise UserError(
            f"network {names.spelled(description.builder, description.name)}: is not a segmentation network; torchvision has "
            f"{similar(description.name, known)}; or use a built-in one, smp.NAME.ENCODER or a factory"
        )
    if description.image_shape[0] != 3:
        raise UserError(f"network {description.name}: takes colour images, not {description.image_shape[0]} channels; use unet")
    return torchvision.models.get_model(
        description.name, weights=None, weights_backbone=None, num_classes=description.num_classes
    )


def _smp(description) -> nn.Module:
    """NAME.ENCODER, as in unet.tu-tf_efficientnet_lite0."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        raise UserError("network: segmentation-models-pytorch is not installed; run pip install 'dfkd[smp]'") from None
    name, _, encoder = description.name.partition(".")
    try:
        return smp.create_model(
            name, encoder, encoder_weights=None, in_channels=description.image_shape[0], classes=description.num_classes
        )
    except Exception as error:  # whatever the library raises for a name that it does not know
        let_through(error)
        if "meta tensors" in str(error):  # SegFormer's encoders compute with values, which a network in outline has not
            raise NotImplementedError(str(error)) from error
        raise UserError(
            f"network smp.{description.name[:60]}: segmentation-models-pytorch cannot build it ({one_line(error, 140)}); known: "
            f"{', '.join(names.for_segmentation(names.SMP))}, with encoders like resnet18 or tu-NAME of timm"
        ) from None


def require_maps(net: nn.Module, description, role: str) -> torch.Tensor:
    """The logits (1,K,H,W) of a black image of the network, then in eval mode; UserError unless it takes the images and gives a
    logit for each class and pixel.

    role: what the network is, for the message.
    """
    net.eval()
    shape, given = "x".join(map(str, description.image_shape)), []
    hook = net.register_forward_hook(lambda _net, _images, outputs: given.append(outputs))
    try:
        with torch.no_grad():
            maps = Classifier(net, description).eval()(torch.zeros(1, *description.image_shape))
    except Exception as error:  # the network is not ours: libraries assert, index and raise what they like
        let_through(error)
        if given and not isinstance(given[0], torch.Tensor):
            raise UserError(
                f"{role}: {description.name} returns a {type(given[0]).__name__}; write a factory whose network returns the "
                "logits alone, of shape (N,K,H,W), or a dict that has them as 'out'"
            ) from None
        raise UserError(
            f"{role}: {description.name} does not accept images of {shape} and return maps ({one_line(error, 140)}); "
            "choose another network, or another image size in the data set"
        ) from None
    finally:
        hook.remove()
    needed = (1, description.num_classes, *description.image_shape[1:])
    if tuple(maps.shape) != needed:
        raise UserError(
            f"{role}: {description.name} returns outputs of shape {tuple(maps.shape)} for one image, not {needed}, one logit per "
            "class and pixel; use a segmentation network with as many classes as the data set"
        )
    return maps
