"""CMI's instance discriminator: a loss that keeps an image unlike all earlier ones (arXiv 2105.08584, eq. 6 ff.)."""

import contextlib

import torch
import torch.nn.functional as F
from torch import nn

from ...models import hooks
from ...models.pooling import place_means
from ...runtime import memory
from ...runtime.device import autocast
from ...runtime.errors import UserError
from ...runtime.seeds import seed_of
from ...storage import checkpoint
from . import image_losses


class InstanceDiscriminator:
    """A head that embeds the teacher's features, with its optimiser, and a bank of the features of earlier images.

    Features are the channels' means in what enters the teacher's BatchNorm layers; of a ResNet-34, in what enters its four
    stages, as in the public code; of a teacher without BatchNorm, in its last feature maps of each size.
    """

    EMBEDDED = 256
    BANK = 40960  # images at most; the oldest are replaced

    def __init__(self, config, teacher, device):
        self.config, self.teacher, self.device = config, teacher, device
        self.layers = _layers(teacher)
        with torch.no_grad():
            self.width = self.features(torch.zeros(1, *teacher.description.image_shape, device=device)).shape[1]
        if (need := 16 * self.width**2) > memory.here():  # its first layer, with gradient and moments
            raise UserError(
                f"transfer: {config.method}: needs a layer of {self.width} x {self.width} weights for this teacher, "
                f"{need / memory.GIB:.1f} GiB; use another method, e.g. fast, or a teacher with fewer channels"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(config.method, config.seed, "discriminator"))
            layers = nn.Linear(self.width, self.width), nn.ReLU(), nn.Linear(self.width, self.EMBEDDED)
            self.net = nn.Sequential(*layers).to(device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.lr_g, fused=True)
        # Of a part, and of the whole. In half precision: for a WRN-40-2 these are half a gigabyte.
        self.bank = torch.zeros(min(config.n, self.BANK), 2, self.width, dtype=torch.float16, device=device)
        self.written = 0

    @property
    def held(self) -> int:
        """Images in the bank."""
        return min(self.written, len(self.bank))

    @contextlib.contextmanager
    def watch(self):
        """Yields a function that gives the features (N,D) of the teacher's last pass inside the block."""
        if not self.layers:
            with hooks.feature_maps(self.teacher) as maps:
                yield lambda: _means_by_size(maps)
            return
        means = []

        def keep(module, inputs, output):
            means.append(place_means(inputs[0]))

        with hooks.hooked([self.teacher.net], lambda *_: means.clear(), before=True), hooks.hooked(self.layers, keep):
            yield lambda: torch.cat(means, 1)

    def features(self, images):
        """The teacher's features (N,D) of images."""
        with self.watch() as features, autocast(self.device, self.config.precision):
            self.teacher(images)
            return features()

    def embed(self, features):
        """Unit vectors (N,256) that tell one image from another."""
        return F.normalize(self.net(features), dim=1)

    def loss(self, part, whole, rng):
        """The contrastive loss on features (N,D) of a part of each image, the anchors, and of the whole image, the keys, which
        take no gradient; ``config.bank`` earlier images are further anchors and keys."""
        earlier = self.bank[torch.randperm(self.held, generator=rng, device=self.device)[: self.config.bank]]
        anchors = self.embed(torch.cat([part, earlier[:, 0]]))
        keys = self.embed(torch.cat([whole, earlier[:, 1]])).detach()
        return image_losses.contrastive(anchors, keys, len(part), self.config.tau_c)

    def step(self, _):
        """A step of the head down the gradients that are in place."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def remember(self, part, whole):
        """Put the features of new images into the bank."""
        places = torch.arange(self.written, self.written + len(part), device=self.device) % len(self.bank)
        self.bank[places] = torch.stack([part, whole], 1).half()
        self.written += len(part)

    def state(self) -> dict:
        """The head, its moments, and the bank."""
        return {
            **checkpoint.state_of(self.net, self.optimizer),
            "bank": checkpoint.first_rows(self.bank, self.held),
            "written": self.written,
        }

    def restore(self, state: dict):
        """Go on from ``state``."""
        checkpoint.restore(self.net, self.optimizer, state)
        self.written = state["written"]
        self.bank[: self.held] = state["bank"].to(self.device)


def _layers(teacher) -> list[nn.Module]:
    """The layers whose inputs are the features."""
    net = teacher.net
    if teacher.description.builder == "arch" and teacher.description.name == "resnet34":
        return [net.layer1, net.layer2, net.layer3, net.layer4]
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


def _means_by_size(maps: dict):
    """The mean of each channel of feature maps {size: (N,C,H,W)}, all sizes side by side. -> (N,D)."""
    if not maps:
        raise UserError(
            "transfer: cmi: the teacher has no feature maps, which the contrastive loss needs; use another teacher or method"
        )
    return torch.cat([place_means(maps[size]) for size in sorted(maps)], 1)
