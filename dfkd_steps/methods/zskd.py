"""Zero-shot knowledge distillation: data impressions (Nayak et al., ICML 2019, arXiv 1905.08114)."""

import numpy as np
import torch
import torch.nn.functional as F

from ..models import hooks
from ..models.cast import cast_copy
from ..runtime.device import autocast
from ..schemas.transfer.zskd import ZSKDConfig
from .base import Batch, Method
from .engines import soft_targets


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


class ZSKD(Method):
    """argmin_x CE(y, softmax(T(x)/tau)) (eq. 2). Batch i depends on (seed, i) alone."""

    Config = ZSKDConfig
    has_targets = True

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.drawn = soft_targets.drawn(config)
        self.cast = cast_copy(teacher, config.precision)
        last = hooks.last_linear(teacher.net, teacher.description.image_shape)
        self.alpha = concentration(similarity(last.weight.detach().cpu())).numpy()

    def batch(self, index: int) -> Batch:
        """Dirichlet targets, and the images that meet them."""
        drawn = draw_targets(self.alpha, self.rows(index), self.config.betas, self.seed_of(index, "targets"))
        return soft_targets.synthesize(self, index, torch.from_numpy(drawn).float().to(self.device), self.losses_of)

    def losses_of(self, images, targets):
        """Cross-entropy at temperature tau for each sample (N); images (N,C,H,W), targets (N,K)."""
        with autocast(self.device, self.config.precision):
            logits = self.cast(images)
        return soft_targets.soft_cross_entropy(logits.float(), targets, self.config.tau)
