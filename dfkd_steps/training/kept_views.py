"""Views of images with the teacher's logits for them, kept for many student steps.

Of a student step with WRN-40-2 -> WRN-16-1, 80 % of the operations are the teacher's pass over a random view. Kept logits of
a few views of each image save most of these, as in FKD for ImageNet (Shen & Xing, ECCV 2022, arXiv 2112.01528).
"""

import torch

from ..runtime.errors import UserError
from . import views


def refuse_maps(description, where: str):
    """Raise UserError, which begins with ``where``, for a teacher of segmentation."""
    if description.dense:
        raise UserError(f"{where}: views_kept: logits of single pixels are not stored; set views_kept: 0")


class KeptViews:
    """``number`` views of each of ``images`` images: what each consists of (a row of ``views.described``), and the teacher's
    logits for it in float16. An image is named by its place, a view of it by its slot.
    """

    def __init__(self, images: int, number: int, view: str, ask, classes: int, device):
        """ask(images (N,C,H,W)) -> the teacher's logits (N,K). view: a name in ``schemas.choices.REPEATABLE``."""
        self.number, self.view, self.ask = number, view, ask
        numbers, kind = views.described(view)
        self.parameters = torch.zeros(images, number, numbers, dtype=kind, device=device)
        self.logits = torch.zeros(images, number, classes, dtype=torch.float16, device=device)
        self.overflowed = torch.zeros((), dtype=torch.bool, device=device)

    def renew(self, places, slots, images, rng):
        """New views of images (N,C,H,W) in these places and slots (N), with what the teacher says of them. The caller asks
        ``require_finite`` from time to time: a GPU would be waited for in each step.
        """
        parameters = views.draw(self.view, images, rng)
        # A place drawn twice with one slot leaves one of its two views with its logits: written in one order, deterministically.
        self.parameters[places, slots] = parameters
        logits = self.ask(views.repeat(self.view, images, parameters)).half()
        self.overflowed |= ~logits.isfinite().all()
        self.logits[places, slots] = logits

    def require_finite(self):
        """Raise UserError where a logit since the start was too large for float16, which takes numbers up to 65,504."""
        if self.overflowed:
            raise UserError("views_kept: the teacher's logits are too large to be kept in float16; set views_kept: 0")

    def read(self, places, slots, images):
        """The views (N,C,H,W) of images in these places and slots, and the teacher's logits (N,K) for them, float32."""
        return views.repeat(self.view, images, self.parameters[places, slots]), self.logits[places, slots].float()


class ViewsInTurn:
    """Kept views of stored samples: a sample takes a new view each of the first times that it is drawn, until it has
    ``kept.number`` of them, and then these in turn."""

    def __init__(self, kept: KeptViews):
        self.kept = kept
        self.drawn = torch.zeros(len(kept.logits), dtype=torch.int64, device=kept.logits.device)  # how often each sample was
        self.complete = False  # every sample has all its views: from then on no step waits for a GPU to say which are new

    def batch(self, places, images, rng):
        """Views of images (N,C,H,W) in these places (N), and the teacher's logits (N,K) for them, float32."""
        times = self.drawn[places]
        slots = times % self.kept.number
        if not self.complete:
            new = times < self.kept.number
            if new.any():
                self.kept.renew(places[new], slots[new], images[new], rng)
                self.kept.require_finite()
            else:
                self.complete = bool((self.drawn >= self.kept.number).all())
        self.drawn[places] = times + 1  # of a sample that is twice in a batch once: it shows one view there
        return self.kept.read(places, slots, images)

    def state(self) -> dict:
        """The views and logits so far, and how often each sample was drawn."""
        return {"drawn": self.drawn, "parameters": self.kept.parameters, "logits": self.kept.logits}

    def restore(self, state: dict):
        """Go on from ``state``."""
        self.complete = False
        self.drawn.copy_(state["drawn"])
        self.kept.parameters.copy_(state["parameters"])
        self.kept.logits.copy_(state["logits"])
