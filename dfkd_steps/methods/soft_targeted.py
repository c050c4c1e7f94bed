"""Soft-targeted transfer set: a Gaussian model of the features (Wang, AAAI 2021, arXiv 2104.04868)."""

import torch
import torch.nn.functional as F

from ..models import hooks
from ..models.cast import cast_copy
from ..runtime.device import autocast
from ..runtime.errors import UserError
from ..schemas.transfer.soft_targeted import SoftTargetedConfig
from .base import Batch, Method
from .engines import image_losses, soft_targets


def correlation(weights):
    """R_ij = cos(u_i, u_j), u_i the incoming weights of unit i (a reconstruction), + 1e-4 on the diagonal.

    (D, incoming...) -> (D,D), positive definite.
    """
    unit = F.normalize(weights.double().flatten(1), dim=1)
    return unit @ unit.T + 1e-4 * torch.eye(len(unit), dtype=torch.float64, device=unit.device)


class SoftTargeted(Method):
    """argmin_x CE(y, softmax(T(x)/tau)) + lambda_a activation. Batch i depends on (seed, i) alone."""

    Config = SoftTargetedConfig
    has_targets = True

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.drawn = soft_targets.drawn(config)
        shape = teacher.description.image_shape
        self.last = hooks.last_linear(teacher.net, shape)
        self.cast = cast_copy(teacher, config.precision)
        with autocast(device, config.precision):
            self.last_of_cast = hooks.last_linear(self.cast.net, shape)
        before = hooks.feeding(teacher.net, shape)
        if before is None:
            raise UserError(
                f"{type(teacher.net).__name__}: no layer has the {self.last.in_features} units that enter its classifier, "
                "which this method models; use another teacher"
            )
        layer, norm, self.rectified = before
        self.root, self.mean = torch.linalg.cholesky(correlation(layer.weight.detach().cpu())), torch.zeros(())
        if norm is not None:
            # BatchNorm says what its outputs are over the data: mean = shift, deviation = |scale|; a scale below 0 turns a unit.
            self.root = norm.weight.detach().cpu().double()[:, None] * self.root
            self.mean = norm.bias.detach().cpu().double()

    def batch(self, index: int) -> Batch:
        """Targets of drawn features, and the images that meet them."""
        targets = self.draw_targets(self.rows(index), self.seed_of(index, "targets"))
        return soft_targets.synthesize(self, index, targets, self.losses_of)

    def draw_targets(self, rows: range, seed: int):
        """Soft targets y = softmax(f_rest(h)/tau) of features h ~ N(mu, sigma^2 D R D), D = BatchNorm's scale or 1.

        -> (len(rows), K).
        """
        rng = torch.Generator().manual_seed(seed)
        drawn = torch.randn(len(rows), len(self.root), generator=rng, dtype=torch.float64)
        features = self.mean + self.config.sigma * drawn @ self.root.T
        features = (features.relu() if self.rectified else features).float().to(self.device)
        with torch.no_grad():
            return F.softmax(self.last(features) / self.config.tau, 1)

    def losses_of(self, images, targets):
        """Cross-entropy at temperature tau and the activation loss, for each sample (N); images (N,C,H,W), targets (N,K)."""
        with autocast(self.device, self.config.precision), hooks.entering(self.last_of_cast) as features:
            logits = self.cast(images).float()
        each = soft_targets.soft_cross_entropy(logits, targets, self.config.tau)
        return each + self.config.activation * image_losses.activation(features[0].float())
