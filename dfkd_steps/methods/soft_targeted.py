"""Soft-targeted transfer set: a Gaussian model of the features (Wang, AAAI 2021, arXiv 2104.04868)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .. import losses, pixels, probe, runtime
from ..errors import UserError
from ..fields import opt
from . import noise
from .base import Batch, TransferConfig
from .base import Method as Base


@dataclass
class Config(TransferConfig):
    """Images whose softened output is that of features drawn from a Gaussian, and which excite the features."""

    sigma: float = opt(1.5, "standard deviation of the features before their activation (1.5 MNIST, 2 CIFAR-10)", above=0, hi=100)
    activation: float = opt(0.05, "weight of the activation loss (0.05 LeNet-5, 0.1 AlexNet)", lo=0)
    tau: float = opt(20.0, "temperature of the teacher while pixels are optimised", above=0, hi=1000)
    steps: int = opt(1500, "Adam steps at most", lo=1)
    lr: float = opt(0.05, "Adam step on pixels in [0,1]", above=0, hi=100)
    window: int = opt(50, "steps between two looks at whether a sample has converged", lo=1)
    tolerance: float = opt(1e-3, "a sample stops where its loss fell by less over `window` steps, nats (0 = never)", lo=0)
    precision: str = opt("fp32", "bf16 = autocast", choices=("fp32", "bf16"))


def correlation(weights):
    """R_ij = cos(u_i, u_j), u_i the incoming weights of unit i (a reconstruction), + 1e-4 on the diagonal.

    (D, incoming...) -> (D,D), positive definite.
    """
    unit = F.normalize(weights.double().flatten(1), dim=1)
    return unit @ unit.T + 1e-4 * torch.eye(len(unit), dtype=torch.float64, device=unit.device)


class Method(Base):
    """Batch i depends on (seed, i) alone."""

    has_targets = True

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        shape = teacher.description.image_shape
        self.last = probe.last_linear(teacher.net, shape)
        before = probe.feeding(teacher.net, shape)
        if before is None:
            raise UserError(
                f"{type(teacher.net).__name__}: no layer has the {self.last.in_features} units that enter its classifier, "
                "which this method models; use another teacher"
            )
        layer, norm, self.rectified = before
        self.root = torch.linalg.cholesky(correlation(layer.weight.detach().cpu()))
        self.mean = torch.zeros(len(self.root)) if norm is None else norm.bias.detach().cpu()
        self.mean = self.mean.double()

    def draw_targets(self, number: int, seed: int):
        """Soft targets y = softmax(f_rest(h)/tau) of features h ~ N(mu, sigma^2 R). -> (number, K)."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(number, len(self.root), generator=generator, dtype=torch.float64)
        features = self.mean + self.config.sigma * drawn @ self.root.T
        features = (features.relu() if self.rectified else features).float().to(self.device)
        with torch.no_grad():
            return F.softmax(self.last(features) / self.config.tau, 1)

    def batch(self, index: int) -> Batch:
        """argmin_x CE(y, softmax(T(x)/tau)) + lambda_a activation, from uniform noise."""
        config, rows = self.config, self.rows(index)
        wanted = self.draw_targets(len(rows), self.seed_of(index, "targets"))
        generator = torch.Generator().manual_seed(self.seed_of(index, "pixels"))
        start = noise.uniform(len(rows), self.teacher.description, generator).to(self.device)

        def losses_of(images, chosen):
            features = []
            with (
                runtime.autocast(self.device, config.precision),
                probe.hooked([self.last], lambda module, inputs, output: features.append(inputs[0])),
            ):
                logits = self.teacher(images).float()
            each = losses.soft_cross_entropy(logits, wanted[chosen], config.tau)
            return each + config.activation * losses.activation(features[0].float())

        images = pixels.optimise(
            start, losses_of, steps=config.steps, lr=config.lr, check=config.window, tolerance=config.tolerance
        )
        return Batch(images, wanted)
