"""Weights of a network on its way through training, so that its accuracy can be drawn against what it had learnt from.

No artefact holds a time: the log says when each copy was taken, of an interrupted training again where it goes on.
"""

import copy

import torch

from ..models.classifier import Classifier
from ..runtime import progress


class Snapshots:
    """Copies of a classifier's weights at 1/2^number, ..., 1/4 and 1/2 of its training, in ``classifier.snapshots``; also
    counts, in ``classifier.seen``, the images that it has learnt from. A classifier that has been trained before goes on with
    its own."""

    def __init__(self, classifier: Classifier, number: int):
        self.classifier = classifier
        self.places = [2.0**-power for power in range(number, 0, -1)]
        self.passed = 0  # of the places
        self.seconds: dict[int, float] = {}  # of the job until each copy

    def step(self, share: float, images: int):
        """To be called before a step on ``images`` images; ``share`` of the training that is done, in [0,1)."""
        passed, seen = sum(share >= place for place in self.places), self.classifier.seen
        if passed > self.passed:
            weights = self.classifier.net.state_dict()
            self.classifier.snapshots[seen] = {name: _copied(value) for name, value in weights.items()}
            self.seconds[seen] = progress.spent()
            self._say(seen)
        self.passed = passed
        self.classifier.seen += images

    def _say(self, seen: int):
        progress.say(f"snapshot after {seen} images, {self.seconds[seen]:.1f} s")

    def state(self) -> dict:
        """What is to be kept with the weights of the classifier."""
        copies = {"snapshots": dict(self.classifier.snapshots), "seconds": dict(self.seconds)}
        return {"passed": self.passed, "seen": self.classifier.seen, **copies}

    def restore(self, state: dict):
        """Go on from ``state``."""
        self.passed, self.classifier.seen = state["passed"], state["seen"]
        self.classifier.snapshots, self.seconds = copy.deepcopy(state["snapshots"]), dict(state["seconds"])
        for seen in self.seconds:
            self._say(seen)


def networks(classifier: Classifier) -> dict[int, Classifier]:
    """The classifier as it was at each of its snapshots, by the images that it had learnt from, and at its end; in eval mode."""
    by_seen = {}
    for seen, weights in sorted(classifier.snapshots.items()):
        by_seen[seen] = copy.deepcopy(classifier)
        by_seen[seen].net.load_state_dict(weights)
    return {**by_seen, classifier.seen: classifier}


def _copied(value: torch.Tensor) -> torch.Tensor:
    return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
