"""The student's images regenerated, with channels exchanged between pairs in the generator's feature maps (channel-wise feature
exchange of SpaceshipNet, CVPR 2023, public code)."""

import torch
from torch.optim.swa_utils import update_bn

from ...runtime.device import autocast

BATCHES = 4  # of latent vectors, from which the generator's BatchNorm statistics are taken


def exchange_channels(maps, rng):
    """Maps (N,C,H,W) of which each keeps a random half of its channels and takes the others of its partner, map N-1-i."""
    number, channels = maps.shape[:2]
    kept = torch.rand(number, channels, generator=rng, device=maps.device).argsort(1) < channels // 2
    return torch.where(kept[:, :, None, None], maps, maps.flip(0))


class ExchangedImages:
    """The latent vectors of the images in a pool, from which the current generator regenerates them.

    The public code stores the feature maps themselves, 106,496 numbers per image, and decodes them by the current generator;
    here that generator makes the maps too.
    """

    def __init__(self, config, pool, inverter):
        self.config, self.inverter = config, inverter
        self.latents = torch.zeros(pool.capacity, config.latent, device=pool.images.device)

    def put(self, places, latents):
        """Latent vectors (N,Z) of the images that were put into places (N) of the pool."""
        self.latents[places] = latents

    def take_statistics(self, held: int):
        """The generator's BatchNorm statistics anew, from latent vectors spread over the ``held`` first of the pool.

        The running ones are those of the copies that the batches moved, and lag behind the generator: after its first layers are
        drawn anew, images in eval mode would be nearly grey for ten rounds. SpaceshipNet's generator is one, and never reset.
        """
        device, number = self.latents.device, min(held, BATCHES * self.config.batch)
        rows = torch.arange(number, device=device) * held // number
        parts = rows.tensor_split(max(1, number // self.config.batch))  # of about the size that it was trained with
        with autocast(device, self.config.precision):
            update_bn([self.latents[part] for part in parts], self.inverter.generator)

    def images(self, rows, rng):
        """Images (N,C,H,W) in [0,1] for these rows (N) of the pool: mixed in a share ``exchange`` of all calls, at a level of
        the generator that is drawn for the whole batch. The generator in eval mode, without gradients."""
        generator, device = self.inverter.generator, rows.device
        level = int(torch.randint(0, len(generator.stages) + 1, (), generator=rng, device=device))
        mixed = torch.rand((), generator=rng, device=device) < self.config.exchange
        generator.eval()
        with torch.no_grad(), autocast(device, self.config.precision):
            maps = generator.maps(self.latents[rows], level)
            return generator.from_maps(torch.where(mixed, exchange_channels(maps, rng), maps), level)

    def state(self) -> dict:
        """The latent vectors."""
        return {"latents": self.latents.clone()}

    def restore(self, state: dict):
        """Go on from ``state``."""
        self.latents.copy_(state["latents"])


def build(config, pool, inverter):
    """The images with exchanged channels, or None where the config has none."""
    return ExchangedImages(config, pool, inverter) if config.exchange else None
