"""Synthetic images kept while a method trains: a fixed number of places, on the device, as uint8."""

import torch

from ...training.predict import to_float


class ImagePool:
    """Up to ``capacity`` images (C,H,W); ``generation``: the round each was made in."""

    def __init__(self, capacity: int, image_shape, device):
        self.images = torch.zeros(capacity, *image_shape, dtype=torch.uint8, device=device)
        self.generation = torch.zeros(capacity, dtype=torch.int64, device=device)
        self.filled = self.written = 0

    def __len__(self):
        return self.filled

    @property
    def capacity(self) -> int:
        """Places in all."""
        return len(self.images)

    def places(self, number: int):
        """Where the next ``number`` images belong: the empty places in order, and then those of the oldest."""
        return torch.arange(self.written, self.written + number, device=self.images.device) % self.capacity

    def put(self, places, images, generation: int):
        """Images (N,C,H,W) in [0,1] into places (N), rounded; what was there is gone."""
        self.images[places] = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
        self.generation[places] = generation
        self.written += len(places)
        self.filled = min(self.written, self.capacity)

    def add(self, images, generation: int):
        """Images, no more than there are places, into the next places."""
        self.put(self.places(len(images)), images, generation)

    def read(self, rows):
        """Images (N,C,H,W) as float32 in [0,1], channels_last."""
        return to_float(self.images[rows])

    def draw(self, number: int, rng):
        """``number`` rows, uniform, with replacement."""
        return torch.randint(0, len(self), (number,), generator=rng, device=self.images.device)

    def state(self) -> dict:
        """The images and where the next one goes."""
        filled = self.filled
        return {"images": self.images[:filled].clone(), "generation": self.generation[:filled].clone(), "written": self.written}

    def restore(self, state: dict):
        """Go on from ``state``."""
        self.filled, self.written = len(state["images"]), state["written"]
        self.images[: self.filled] = state["images"].to(self.images.device)
        self.generation[: self.filled] = state["generation"].to(self.images.device)
