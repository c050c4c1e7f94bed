"""The network that answers on a transfer set: the teacher, or the teacher with the statistics of the batch."""

import copy

from ..runtime.errors import UserError
from . import hooks
from .classifier import Classifier
from .statistics import CURRENT


def with_current_statistics(network: Classifier) -> Classifier:
    """A copy of a frozen classifier whose BatchNorm layers normalise by the statistics of the batch itself, not by those of the
    training data: its answer to an image depends on the others. Raises UserError where it has no such layer, or frozen ones."""
    classifier = copy.deepcopy(network)
    for layer in hooks.require_batchnorm(classifier.net):
        if (kind := type(layer).__name__) in hooks.FROZEN:
            raise UserError(f"{network.description.name}: has {kind}, which cannot take statistics of the batch; use BatchNorm2d")
        layer.running_mean = layer.running_var = None
        layer.track_running_stats = False
    return classifier.eval().requires_grad_(False)


def needs_whole_batches(metadata: dict) -> bool:
    """Whether the network that answers on a transfer set depends on which images it is shown together."""
    return metadata.get("teacher_statistics") == CURRENT


def of(network: Classifier, metadata: dict) -> Classifier:
    """The network that answers on the images of a transfer set, by the set's metadata: the teacher, or the teacher with current
    statistics."""
    return with_current_statistics(network) if needs_whole_batches(metadata) else network
