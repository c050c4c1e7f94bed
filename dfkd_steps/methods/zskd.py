"""Zero-shot knowledge distillation: data impressions (Nayak et al., ICML 2019, arXiv 1905.08114)."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .. import losses, pixels, probe, runtime
from ..fields import opt
from . import noise
from .base import Batch, TransferConfig
from .base import Method as Base


@dataclass
class Config(TransferConfig):
    """Data impressions: images whose softened teacher output is a target drawn from a Dirichlet distribution."""

    betas: list[float] = opt([1.0, 0.1], "scales of the Dirichlet concentration, an equal share of samples each", above=0, hi=100)
    tau: float = opt(20.0, "temperature of the teacher while pixels are optimised", above=0, hi=1000)
    start: str = opt("uniform", "noise that pixels start from: uniform (the paper), or another", choices=tuple(noise.KINDS))
    steps: int = opt(1500, "Adam steps at most", lo=1)
    lr: float = opt(0.05, "Adam step on pixels in [0,1]", above=0, hi=100)
    window: int = opt(50, "steps between two looks at whether a sample has converged", lo=1)
    tolerance: float = opt(1e-3, "a sample stops where its loss fell by less over `window` steps, nats (0 = never)", lo=0)
    precision: str = opt("fp32", "bf16 = autocast", choices=("fp32", "bf16"))

    def check(self):
        return None if self.betas else "betas is empty; give at least one scale"


def similarity(weights):
    """C_ij = cos(w_i, w_j) over rows of the last layer's weights, bias left out (eq. 1). (K,D) -> (K,K)."""
    unit = F.normalize(weights.double(), dim=1)
    return unit @ unit.T


def concentration(classes):
    """Rows of the similarity matrix, each min-max scaled to [0,1], + 1e-4 (sec. 3.1.2). (K,K) -> (K,K)."""
    low, high = classes.min(1, keepdim=True).values, classes.max(1, keepdim=True).values
    return (classes - low) / (high - low).clamp_min(1e-12) + 1e-4


def draw_targets(alpha, samples, betas, seed: int) -> np.ndarray:
    """Soft targets y ~ Dir(beta alpha^k) for the given sample numbers; class and beta go round in turn. -> (B,K).

    The public code scales beta away by normalising a second time; here beta multiplies the scaled row, once.
    """
    samples = np.asarray(samples)
    classes, scales = samples % len(alpha), np.asarray(betas)[samples // len(alpha) % len(betas)]
    drawn = np.random.default_rng(seed).standard_gamma(np.asarray(alpha)[classes] * scales[:, None])
    # Gamma draws of small shape can all be 0 in floating point; then all weight is the class's own.
    empty = drawn.sum(1) <= 0
    drawn[empty, classes[empty]] = 1
    return drawn / drawn.sum(1, keepdims=True)


class Method(Base):
    """Batch i depends on (seed, i) alone."""

    has_targets = True

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        last = probe.last_linear(teacher.net, teacher.description.image_shape)
        self.alpha = concentration(similarity(last.weight.detach().cpu())).numpy()

    def batch(self, index: int) -> Batch:
        """argmin_x CE(y, softmax(T(x)/tau)) from noise (eq. 2)."""
        config, rows = self.config, self.rows(index)
        targets = draw_targets(self.alpha, rows, config.betas, self.seed_of(index, "targets"))
        wanted = torch.from_numpy(targets).float().to(self.device)
        generator = torch.Generator().manual_seed(self.seed_of(index, "pixels"))
        start = noise.KINDS[config.start](len(rows), self.teacher.description, generator).to(self.device)

        def losses_of(images, chosen):
            with runtime.autocast(self.device, config.precision):
                logits = self.teacher(images)
            return losses.soft_cross_entropy(logits.float(), wanted[chosen], config.tau)

        images = pixels.optimise(
            start, losses_of, steps=config.steps, lr=config.lr, check=config.window, tolerance=config.tolerance
        )
        return Batch(images, wanted)
