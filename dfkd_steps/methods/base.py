"""The contract of a synthesis method.

The file of a method holds its class, derived from ``Method``. Its config, a dataclass derived from ``TransferConfig``, is the
class attribute ``Config``; it stands in the file of the same name in ``schemas.transfer``, since a config is read without
torch. A method has

    __init__(self, config, teacher, sources, device)
    batch(self, index) -> Batch          # the batches of a set in order; ``index`` counts from 0

Batch i depends on (seed, i) alone, in any order and in any process. A method that trains something first (a generator, a
student) also has

    rounds: int                          # how often ``round`` is called, in order, before the first batch
    round(self, index) -> dict | None    # what it draws depends on (seed, index), what it computes on its state too;
                                         # returns figures of the round for the learning curves, by name
    parts: dict                          # name -> what rounds change; each part has state() and restore(state)
    networks(self) -> dict               # name -> Classifier or Generator, kept with the images

and, where some batches need some of the rounds only, ``partitions`` and ``rounds_for``.

``Config.tasks`` says what teachers it takes; for segmentation these give logits (N,K,H,W).

``teacher`` is a frozen ``Classifier`` on images in [0,1]. ``sources`` are data sets, opened read-only, for the
arbitrary transfer sets only. The step does everything else: device, progress, writing, locking, resuming.
"""

import abc
from dataclasses import dataclass

import torch

from ..runtime.errors import UserError
from ..runtime.seeds import seed_of
from ..schemas.transfer.base import TransferConfig


@dataclass
class Batch:
    """Images (B,C,H,W) in [0,1], any device; the soft targets (B,K) they were made for, if any; the round they are of.

    round: one number, or one for each image (B).
    """

    images: torch.Tensor
    targets: torch.Tensor | None = None
    round: int | torch.Tensor = 0


class Method(abc.ABC):
    """Base of the methods; see the head of this file."""

    Config: type[TransferConfig]
    rounds = 0
    has_targets = False
    all_from_sources = False  # True: holds nothing but images of its sources
    # What the set holds or starts from beside the teacher, knowledge of the domain: kinds of drawn images, label embeddings.
    drawn: tuple[str, ...] = ()

    def __init__(self, config, teacher, sources, device):
        if teacher.training:
            raise UserError("teacher: is in training mode, so images change its statistics; call .eval().requires_grad_(False)")
        self.config, self.teacher, self.sources, self.device = config, teacher, sources, device
        self.parts: dict = {}
        self.answering = teacher  # whose logits are stored with the images

    @abc.abstractmethod
    def batch(self, index: int) -> Batch:
        """The batch number ``index`` of the set."""

    def round(self, index: int) -> dict[str, float] | None:
        """One piece of the training that comes before the first batch.

        Returns its figures by name, which progress bar, learning curves and report show: "loss" and "agreement" are those of a
        student inside (``OnlineStudent.figures``). The same names in all rounds; None in those before the student trains.
        """
        return None

    def partitions(self) -> list[range]:
        """The batches, in parts of which each can be made without the others; as many as ``config.max_shards()``."""
        return [range(self.count())] if self.rounds else [range(index, index + 1) for index in range(self.count())]

    def rounds_for(self, batches: range) -> range:
        """The rounds that ``batches`` need before them."""
        return range(self.rounds)

    def state(self) -> dict:
        """All that rounds leave behind: nested dicts and lists of tensors and plain values."""
        return {name: part.state() for name, part in self.parts.items()}

    def restore(self, state: dict):
        """Go on from ``state``."""
        for name, part in self.parts.items():
            part.restore(state[name])

    def networks(self) -> dict:
        """Trained networks to be kept in the transfer set, by name."""
        return {}

    def about(self) -> dict:
        """Metadata of the set for reports, e.g. ``{"label": "real data (fashion-mnist)"}``."""
        return {"label": self.config.method}

    def seed_of(self, *parts) -> int:
        """A seed by hash from the method, its seed and what it is for."""
        return seed_of(self.config.method, self.config.seed, *parts)

    def rng(self, *parts) -> torch.Generator:
        """A random generator on the method's device, seeded by ``seed_of``."""
        return torch.Generator(device=self.device).manual_seed(self.seed_of(*parts))

    @property
    def total(self) -> int:
        """Samples of the whole set."""
        return self.config.n

    def rows(self, index: int) -> range:
        """The samples of batch ``index``, by their number in the set."""
        return range(index * self.config.batch, min((index + 1) * self.config.batch, self.total))

    def count(self) -> int:
        """Batches of the whole set."""
        return -(-self.total // self.config.batch)
