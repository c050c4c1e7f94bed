"""More samples of a class that has too few: augmented copies of those there are, or others pushed until the teacher sees it."""

import numpy as np
import torch

from ..runtime import memory, progress
from ..runtime.seeds import make_rng, seed_of
from ..storage.image_format import to_stored, to_unit
from ..training import views
from ..training.predict import predict, to_float
from . import selection
from .selection import answered_at_once, drawn_at_once, likeliest, softmax

PUSHED = 64 << 20  # bytes of the pushed images of a class, at most


def pushed_at_most(transfer) -> int:
    """Samples of a class that are pushed: they are held as long as others of the class are drawn from them."""
    return max(1, min(selection.CHUNK, PUSHED * len(transfer) // max(1, transfer.nbytes("images"))))


class Resampler:
    """Makes more samples of a class out of those there are, and asks the teacher about each again."""

    def __init__(self, config, teacher, transfer, device):
        self.config, self.teacher, self.transfer, self.device = config, teacher, transfer, device
        self.image_type = transfer.layout.image_type
        self.at_once = drawn_at_once(transfer)
        self.rows = answered_at_once(transfer)

    def fields(self, stored, logits, source, label):
        """All fields of new samples, which rows ``source`` (n) of the set became; the target is the softmax of the logits."""
        fields = {"images": stored, "logits": logits, "labels": np.full(len(stored), label), "round": np.zeros(len(stored))}
        fields["source"] = source
        if "targets" in self.transfer:
            fields["targets"] = softmax(logits).astype(np.float32)
        if "weights" in self.transfer:
            fields["weights"] = np.ones(len(stored), np.float32)
        return fields

    def draw(self, pool, label: int, missing: int):
        """Yield ``missing`` samples of a class as augmented copies of ``pool`` (stored images, their logits and rows) that keep
        the class.

        After ``rounds`` rounds without enough, the rest are copies as they are, with the logits that they have.
        """
        rng = np.random.default_rng(seed_of("balance", self.config.seed, "deficit", label))
        augment_rng = make_rng(self.device, "balance", self.config.seed, "augment", label)
        for _ in range(self.config.rounds):
            left = 2 * missing + 16  # of the round, a piece after the other
            while left and missing:
                number = min(left, self.at_once)
                picked, _, rows = pool(rng.integers(0, pool.size, number))
                augmented = views.view("mild", to_float(torch.from_numpy(picked).to(self.device)), augment_rng)
                stored = to_stored(augmented.cpu().numpy(), self.image_type)
                logits = predict(self.teacher, stored, self.device, self.rows)
                right = np.flatnonzero(logits.argmax(1) == label)[:missing]
                left, missing = left - number, missing - len(right)
                if len(right):
                    yield self.fields(stored[right], logits[right], rows[right], label)
        while missing:
            stored, logits, rows = pool(rng.integers(0, pool.size, min(self.at_once, missing)))
            missing -= len(stored)
            yield self.fields(stored, logits, rows, label)

    def pushed(self, labels, number: int):
        """For each of some classes in order, stored images, logits and rows of the ``number`` likeliest samples that a push makes
        the teacher call so: (n,C,H,W), (n,K) and (n). Samples of several classes are pushed together."""
        if not len(labels):
            return
        chosen = np.sort(likeliest(self.transfer, labels, number), axis=1)
        rows, targets, number = chosen.ravel(), np.repeat(labels, chosen.shape[1]), chosen.shape[1]
        sources = rows
        images, logits, waiting = np.empty((0, *self.transfer.layout.image_shape), self.image_type), None, iter(labels)
        for start in progress.bar(range(0, len(rows), self.at_once), desc="push", unit="batch"):
            part = slice(start, start + self.at_once)
            stored, answers = self.push(rows[part], targets[part])
            images = np.concatenate([images, stored])
            logits = answers if logits is None else np.concatenate([logits, answers])
            while len(images) >= number and (label := next(waiting, None)) is not None:
                right = logits[:number].argmax(1) == label
                yield images[:number][right], logits[:number][right], sources[:number][right]
                images, logits, sources = images[number:], logits[number:], sources[number:]

    def push(self, rows, targets):
        """Samples moved by signed gradient steps until the teacher sees ``targets`` (N) in them: stored images, and logits."""
        images = to_float(torch.from_numpy(to_unit(self.transfer.read("images", rows))).to(self.device))
        targets, going = torch.from_numpy(targets).to(self.device), torch.arange(len(rows), device=self.device)
        # Statistics of a batch are those of all that is moved together (selection.answered_at_once).
        together = self.rows or memory.moved(self.transfer.layout.image_shape)
        for _ in range(self.config.push_steps):
            going = torch.cat([self._moved(images, targets, part) for part in going.split(together)])
            if not len(going):
                break
        stored = to_stored(images.cpu().numpy(), self.image_type)
        return stored, predict(self.teacher, stored, self.device, self.rows)

    def _moved(self, images, targets, places):
        """Move the images at some places by one step, in place; those that were not there yet."""
        moved = images[places].requires_grad_()
        loss = torch.nn.functional.cross_entropy(self.teacher(moved), targets[places], reduction="none")
        step = torch.autograd.grad(loss.sum(), moved)[0].sign() * self.config.push_lr
        # A probability of 0.9 and not just the argmax, which rounding to uint8 could undo.
        far = loss.detach() > -np.log(0.9)
        images[places[far]] = (moved.detach() - step)[far].clamp(0, 1)
        return places[far]


class Members:
    """Stored images of a class, their logits and rows, by position among its members; read from the file a chunk at a time."""

    def __init__(self, transfer, members):
        self.transfer, self.members, self.size = transfer, members, len(members)

    def __call__(self, positions):
        rows = self.members[positions]
        return self.transfer.read("images", rows), self.transfer.read("logits", rows), rows


class Held:
    """Stored images, their logits and rows held in memory: the few that were pushed."""

    def __init__(self, images, logits, rows):
        self.images, self.logits, self.rows, self.size = images, logits, rows, len(images)

    def __call__(self, positions):
        return self.images[positions], self.logits[positions], self.rows[positions]
