"""The config of the method SingleImage (``methods.single_image``)."""

from dataclasses import dataclass

from ...models.tasks import TASKS
from ..fields import opt, required
from .base import TransferConfig, batch_size, samples


@dataclass
class SingleImageConfig(TransferConfig):
    """Random crops of one photograph, or of the photographs in a folder: turned, sheared, and some with other colours."""

    tasks = TASKS

    n: int = samples(50000)
    batch: int = batch_size(500)
    images: str = required("an image file, or a folder with any number of them", external="file")
    first_crop: float = opt(
        0.5, "a window of the form of an image is cropped first: its side, as a share of the largest one", above=0, hi=1
    )
    area: float = opt(0.002, "smallest share of the window's area that a crop has; the largest is 1", above=0, hi=1)
    degrees: float = opt(30.0, "crops are turned by up to so many degrees", lo=0, hi=180)
    shear: float = opt(30.0, "crops are sheared along their rows by up to so many degrees", lo=0, hi=80)
    jitter: float = opt(0.5, "share of the images whose brightness, contrast, saturation and hue are changed", lo=0, hi=1)
