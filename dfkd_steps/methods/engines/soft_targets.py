"""An engine: pixels optimised until the teacher's softened output meets given soft targets (ZSKD, soft-targeted)."""

from dataclasses import dataclass

import torch

from ...procedural import registry
from ...schemas.fields import opt
from ...training import views
from ..base import Batch, Method, TransferConfig
from .pixel_optimization import optimize_per_sample


@dataclass
class SoftTargetConfig(TransferConfig):
    """The fields of methods that move pixels to soft targets."""

    tau: float = opt(20.0, "temperature of the teacher while pixels are optimised", above=0, hi=1000)
    start: str = opt(
        "uniform",
        "what pixels start from: uniform (the paper), or other images of nothing",
        choices=tuple(registry.REGISTRY),
        code=registry.module_of,
    )
    untouched: float = opt(
        0.0, "share of the samples that stay as they start; their target is what the teacher says", lo=0, hi=0.9
    )
    steps: int = opt(1500, "Adam steps at most", lo=1)
    lr: float = opt(0.05, "Adam step on pixels in [0,1]", above=0, hi=100)
    view: str = opt("none", "view that the teacher is asked on, drawn anew each step", choices=tuple(views.VIEWS))
    window: int = opt(50, "steps between two looks at whether a sample has converged", lo=1)
    tolerance: float = opt(1e-3, "a sample stops where its mean loss over `window` steps fell by less, nats (0 = never)", lo=0)
    precision: str = opt("fp32", "bf16 = autocast", choices=("fp32", "bf16"))


class SoftTargets(Method):
    """Pixels from noise to soft targets, ``draw_targets``, down ``losses_of``. Batch i depends on (seed, i) alone."""

    has_targets = True

    def draw_targets(self, rows: range, seed: int):
        """Soft targets (len(rows),K) for samples with these numbers, on the device."""
        raise TypeError(f"{type(self).__name__} has no draw_targets()")

    def losses_of(self, images, targets):
        """One loss for each sample (N); images (N,C,H,W), targets (N,K)."""
        raise TypeError(f"{type(self).__name__} has no losses_of()")

    def batch(self, index: int) -> Batch:
        """Targets, images to start from, and the pixels that meet them; of some samples the start itself."""
        config, rows = self.config, self.rows(index)
        wanted = self.draw_targets(rows, self.seed_of(index, "targets"))
        rng = torch.Generator().manual_seed(self.seed_of(index, "pixels"))
        images = registry.load(config.start)(len(rows), self.teacher.description, rng).to(self.device)
        moved = (torch.rand(len(rows), generator=rng) >= config.untouched).to(self.device)
        if not moved.all():
            with torch.no_grad():
                wanted[~moved] = torch.softmax(self.teacher(images[~moved]) / config.tau, 1)
        targets = wanted[moved]
        view_rng = self.rng(index, "views")

        def losses_of(images, chosen):
            return self.losses_of(views.view(config.view, images, view_rng), targets[chosen])

        settings = {"steps": config.steps, "lr": config.lr, "check": config.window, "tolerance": config.tolerance}
        images[moved] = optimize_per_sample(images[moved], losses_of, **settings)
        return Batch(images, wanted)
