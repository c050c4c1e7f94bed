"""Kept views (``training.kept_views``) of the images in a pool, which come and go."""

import torch

from ...storage.checkpoint import first_rows
from ...training.kept_views import KeptViews, refuse_maps


def build(config, pool, student):
    """The stored answers of an online student to a pool, or None where its config has none."""
    if not config.views_kept:
        return None
    description = student.net.description
    refuse_maps(description, f"transfer: {config.method}")
    settings = {"view": config.view_s, "number": config.views_kept, "fresh": config.fresh}
    return StoredAnswers(pool, lambda images: student.ask_teacher(images)[0], description.num_classes, **settings)


class StoredAnswers:
    """``number`` kept views of each image of a pool.

    In each batch a share ``fresh`` of the images takes a new view, which replaces a kept one; the others take a kept one.
    """

    def __init__(self, pool, ask, classes: int, *, view: str, number: int, fresh: float):
        """ask(images (N,C,H,W)) -> the teacher's logits (N,K). view: a name in ``schemas.choices.REPEATABLE``."""
        self.pool, self.fresh = pool, fresh
        device = pool.images.device
        self.kept = KeptViews(pool.capacity, number, view, ask, classes, device)
        self.rounds = torch.full((pool.capacity,), -1, dtype=torch.int64, device=device)  # of the images that were answered

    def refresh(self, rng, batch: int):
        """All views of the images that entered the pool since the last call, ``batch`` images at a time."""
        held = len(self.pool)
        new = (self.rounds[:held] != self.pool.rounds[:held]).nonzero()[:, 0]
        for places in new.split(batch):
            images = self.pool.read(places)
            for slot in range(self.kept.number):
                self.kept.renew(places, torch.full_like(places, slot), images, rng)
        self.rounds[:held] = self.pool.rounds[:held]

    def batch(self, rows, rng):
        """Views (N,C,H,W) of the images in these rows (N) of the pool, and the teacher's logits (N,K) for them, float32."""
        slots = torch.randint(0, self.kept.number, (len(rows),), generator=rng, device=rows.device)
        images = self.pool.read(rows)
        if renewed := round(self.fresh * len(rows)):
            self.kept.renew(rows[:renewed], slots[:renewed], images[:renewed], rng)
        return self.kept.read(rows, slots, images)

    def require_finite(self):
        """As of ``KeptViews``: for the end of a round."""
        self.kept.require_finite()

    def state(self) -> dict:
        """The views and logits of the images that the pool holds; no copy of them."""
        return {name: first_rows(values, len(self.pool)) for name, values in self._fields().items()}

    def restore(self, state: dict):
        """Go on from ``state``."""
        for name, values in self._fields().items():
            values[: len(state[name])] = state[name].to(values.device)

    def _fields(self) -> dict:
        return {"parameters": self.kept.parameters, "logits": self.kept.logits, "rounds": self.rounds}
