"""Views of the pool's images with the teacher's logits for them, kept for many student steps.

Of a student step with WRN-40-2 -> WRN-16-1, 80 % of the operations are the teacher's pass over a random view. Kept logits of
a few views of each image save most of these, as in FKD for ImageNet (Shen & Xing, ECCV 2022, arXiv 2112.01528).
"""

import torch

from ...runtime.errors import UserError
from ...training import views


def build(config, pool, student):
    """The stored answers of an online student to a pool, or None where its config has none."""
    if not config.views_kept:
        return None
    if student.net.description.dense:
        raise UserError(f"transfer: {config.method}: views_kept: logits of each pixel are not kept; set views_kept: 0")
    classes = student.net.description.num_classes
    settings = {"view": config.view_s, "number": config.views_kept, "fresh": config.fresh}
    return StoredAnswers(pool, lambda images: student.ask_teacher(images)[0], classes, **settings)


class StoredAnswers:
    """``number`` views of each image of a pool: what each consists of, and the teacher's logits for it in float16.

    In each batch a share ``fresh`` of the images takes a new view, which replaces a stored one; the others take a stored one.
    """

    def __init__(self, pool, ask, classes: int, *, view: str, number: int, fresh: float):
        """ask(images (N,C,H,W)) -> the teacher's logits (N,K). view: a name in ``schemas.choices.REPEATABLE``."""
        self.pool, self.ask, self.view, self.number, self.fresh = pool, ask, view, number, fresh
        device = pool.images.device
        self.parameters = torch.zeros(pool.capacity, number, 3, dtype=torch.uint8, device=device)
        self.logits = torch.zeros(pool.capacity, number, classes, dtype=torch.float16, device=device)
        self.rounds = torch.full((pool.capacity,), -1, dtype=torch.int64, device=device)  # of the images that were answered

    def refresh(self, rng, batch: int):
        """All views of the images that entered the pool since the last call, ``batch`` images at a time."""
        held = len(self.pool)
        new = (self.rounds[:held] != self.pool.rounds[:held]).nonzero()[:, 0]
        for places in new.split(batch):
            images = self.pool.read(places)
            for slot in range(self.number):
                self._renew(places, torch.full_like(places, slot), images, rng)
        self.rounds[:held] = self.pool.rounds[:held]

    def batch(self, rows, rng):
        """Views (N,C,H,W) of the images in these rows (N) of the pool, and the teacher's logits (N,K) for them, float32."""
        slots = torch.randint(0, self.number, (len(rows),), generator=rng, device=rows.device)
        images = self.pool.read(rows)
        if renewed := round(self.fresh * len(rows)):
            self._renew(rows[:renewed], slots[:renewed], images[:renewed], rng)
        return views.repeat(self.view, images, self.parameters[rows, slots]), self.logits[rows, slots].float()

    def _renew(self, places, slots, images, rng):
        parameters = views.draw(self.view, images, rng)
        # A row drawn twice with one slot leaves one of its two views with its logits: written in one order, deterministically.
        self.parameters[places, slots] = parameters
        self.logits[places, slots] = self.ask(views.repeat(self.view, images, parameters)).half()

    def state(self) -> dict:
        """The views and logits of the images that the pool holds."""
        held = len(self.pool)
        return {name: getattr(self, name)[:held].clone() for name in ("parameters", "logits", "rounds")}

    def restore(self, state: dict):
        """Go on from ``state``."""
        for name, values in state.items():
            getattr(self, name)[: len(values)] = values.to(self.parameters.device)
