"""Images of a generator that is fed with label embeddings through a layer of new random weights (NAYER, arXiv 2310.00258)."""

import torch
import torch.nn.functional as F
from torch import nn

from ...runtime.device import compiled
from . import label_embeddings
from .generator_inversion import descend, new_generator, renewed


def balanced_targets(number: int, classes: int, rng):
    """Labels (number): all classes in turn as often as there is room for all of them, then random ones."""
    whole = torch.arange(classes, device=rng.device).repeat(number // classes)
    rest = torch.randint(0, classes, (number % classes,), generator=rng, device=rng.device)
    return torch.cat([whole, rest])


class LabelInverter:
    """A generator and the BatchNorm of its label embeddings, which are kept from batch to batch; the noisy layers between the
    two are redrawn for each."""

    def __init__(self, config, teacher, seed_of, device):
        """seed_of(*parts) -> a seed, as a method's."""
        self.config, self.teacher, self.seed_of, self.device = config, teacher, seed_of, device
        self.classes = teacher.description.num_classes
        rng = torch.Generator(device=device).manual_seed(seed_of("embedding"))
        self.embeddings = label_embeddings.build(config.embedding, config.embedding_file, self.classes, rng)
        self.generator = compiled(self.new_generator(0))
        self.restart(0)

    def new_generator(self, index: int):
        """The generator of a life that begins with round ``index``, with its first weights."""
        return new_generator(self.config, self.teacher, self.seed_of("generator", index), self.device)

    def restart(self, index: int):
        """New weights of the generator, drawn for round ``index``."""
        renewed(self.generator, self.new_generator(index))
        self.norm = nn.BatchNorm1d(self.embeddings.shape[1]).to(self.device).train()

    def begin_round(self, index: int):
        """Reinitialise the generator at the end of a life, counted from the first round and from the first one with a student."""
        if index and (index % self.config.life == 0 or (index - self.config.warmup) % self.config.life == 0):
            self.restart(index)

    def invert(self, loss_of, labels, rng):
        """Images (B,C,H,W) for labels (B), detached, by ``steps`` steps down ``loss_of(images)`` of the generator and of new
        noisy layers: one for each block of K images, which holds each class once (K-to-1)."""
        config, size = self.config, self.embeddings.shape[1]
        blocks = -(-len(labels) // self.classes)
        noisy = torch.randn(blocks, size, config.latent, generator=rng, device=self.device).requires_grad_()
        bias = torch.zeros(blocks, 1, config.latent, device=self.device).requires_grad_()
        embedded = self.embeddings[labels]
        missing = blocks * self.classes - len(labels)

        def draw():
            rows = F.pad(self.norm(embedded), (0, 0, 0, missing)).view(blocks, self.classes, size)
            return self.generator(torch.baddbmm(bias, rows, noisy).flatten(0, 1)[: len(labels)])

        parameters = [*self.generator.parameters(), *self.norm.parameters(), noisy, bias]
        groups = [{"params": parameters, "lr": config.lr_g}]
        return descend(draw, groups, loss_of, steps=config.steps, precision=config.precision, device=self.device)[0]

    def state(self) -> dict:
        """The weights."""
        return {name: {key: value.clone() for key, value in net.state_dict().items()} for name, net in self._nets()}

    def restore(self, state: dict):
        """Go on from ``state``."""
        for name, net in self._nets():
            net.load_state_dict(state[name])

    def _nets(self):
        return ("generator", self.generator), ("norm", self.norm)
