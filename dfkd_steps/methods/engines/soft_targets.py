"""Images optimised until the teacher's softened output meets given soft targets (ZSKD, soft-targeted)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ...procedural import registry
from ...schemas.fields import opt
from ...training import views
from ..base import Batch, TransferConfig, batch_size, samples
from .pixel_optimization import optimize_per_sample


@dataclass
class SoftTargetOptions(TransferConfig):
    """The fields of methods that move pixels to soft targets."""

    n: int = samples(24000)
    batch: int = batch_size(500)
    tau: float = opt(20.0, "temperature of the teacher while pixels are optimised", above=0, hi=1000)
    start: str = opt(
        "uniform",
        "initial images: uniform noise (the paper), or another synthetic source",
        choices=tuple(registry.REGISTRY),
        code=registry.module_of,
    )
    untouched: float = opt(
        0.0, "share of the samples that stay as they start; their target is the teacher's softened output", lo=0, hi=0.9
    )
    steps: int = opt(1500, "Adam steps at most", lo=1)
    lr: float = opt(0.05, "Adam step on pixels in [0,1]", above=0, hi=100)
    view: str = opt("none", "augmentation of the images that the loss sees, drawn anew each step", choices=tuple(views.VIEWS))
    window: int = opt(50, "steps between two checks whether a sample has converged", lo=1)
    tolerance: float = opt(1e-3, "a sample stops where its mean loss over `window` steps fell by less, nats (0 = never)", lo=0)
    precision: str = opt("fp32", "bf16 = autocast, where the device computes in it", choices=("fp32", "bf16"))


def drawn(config) -> tuple[str, ...]:
    """The kind of procedural images that the set starts from; () where it starts from noise."""
    return (config.start,) if config.start in registry.PROCEDURAL else ()


def soft_cross_entropy(logits, targets, tau: float = 1.0):
    """-sum_k y_k log softmax(z/tau)_k for each sample, nats (ZSKD, arXiv 1905.08114, eq. 2). (N,K), (N,K) -> (N)."""
    return -(targets * F.log_softmax(logits / tau, 1)).sum(1)


def synthesize(method, index: int, targets, losses_of) -> Batch:
    """Batch ``index`` of a method: start images, moved until they meet soft targets (N,K); ``untouched`` of them stay.

    losses_of(images, targets) -> one loss for each sample (N). The targets of untouched images are overwritten.
    """
    config = method.config
    rng = torch.Generator().manual_seed(method.seed_of(index, "pixels"))
    images = registry.draw(config.start, len(targets), method.teacher.description, rng).to(method.device)
    moved = (torch.rand(len(targets), generator=rng) >= config.untouched).to(method.device)
    if not moved.all():
        with torch.no_grad():
            targets[~moved] = torch.softmax(method.teacher(images[~moved]) / config.tau, 1)
    targets_of_moved = targets[moved]
    view_rng = method.rng(index, "views")

    def losses_of_views(images, rows):
        return losses_of(views.view(config.view, images, view_rng), targets_of_moved[rows])

    settings = {"steps": config.steps, "lr": config.lr, "check": config.window, "tolerance": config.tolerance}
    images[moved] = optimize_per_sample(images[moved], losses_of_views, **settings)
    return Batch(images, targets)
