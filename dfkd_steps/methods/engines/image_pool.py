"""Synthetic images kept while a method trains (the memory bank of CMI and Fast, the replay buffer of SSD-KD): a fixed number
of places, on the device, as uint8."""

import torch

from ...storage.checkpoint import first_rows
from ...training.predict import to_float
from ..base import Batch


class ImagePool:
    """Up to ``capacity`` images (C,H,W); ``rounds``: the round each was made in.

    The replacement rule is the caller's: ``add`` fills the empty places and then replaces the oldest image, ``put`` replaces
    the images in given places.
    """

    def __init__(self, capacity: int, image_shape, device):
        self.images = torch.zeros(capacity, *image_shape, dtype=torch.uint8, device=device)
        self.rounds = torch.zeros(capacity, dtype=torch.int64, device=device)
        self.filled = 0
        self.written = 0

    def __len__(self):
        return self.filled

    @property
    def capacity(self) -> int:
        """Places in all."""
        return len(self.images)

    def places(self, number: int):
        """Where the next ``number`` images belong: the empty places in order, and then those of the oldest."""
        return torch.arange(self.written, self.written + number, device=self.images.device) % self.capacity

    def put(self, places, images, index: int):
        """Images (N,C,H,W) in [0,1] of round ``index`` into places (N), rounded; what was there is gone."""
        self.images[places] = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
        self.rounds[places] = index
        self.written += len(places)
        self.filled = min(self.written, self.capacity)

    def add(self, images, index: int):
        """Images of round ``index``, no more than there are places, into the next places."""
        self.put(self.places(len(images)), images, index)

    def read(self, rows):
        """Images (N,C,H,W) as float32 in [0,1], channels_last."""
        return to_float(self.images[rows])

    def batch(self, rows: range) -> Batch:
        """A batch of the transfer set: these rows of the pool."""
        rows = torch.tensor(rows, device=self.images.device)
        return Batch(self.read(rows), round=self.rounds[rows].cpu())

    def state(self) -> dict:
        """The images, which are those of the pool and no copy, and where the next one goes."""
        fields = {"images": self.images, "rounds": self.rounds}
        return {name: first_rows(values, len(self)) for name, values in fields.items()} | {"written": self.written}

    def restore(self, state: dict):
        """Go on from ``state``."""
        self.filled = len(state["images"])
        self.written = state["written"]
        self.images[: self.filled] = state["images"].to(self.images.device)
        self.rounds[: self.filled] = state["rounds"].to(self.images.device)
