"""Images optimised until the teacher's softened output meets given soft targets (ZSKD, soft-targeted)."""

import torch
import torch.nn.functional as F

from ...procedural import drawing, registry
from ...training import views
from ..base import Batch
from .pixel_optimization import optimize_per_sample


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
    images = drawing.draw(config.start, len(targets), method.teacher.description, rng).to(method.device)
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
