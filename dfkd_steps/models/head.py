"""Networks that are cut to some of their classes: what depends on the number of classes, as a rule the last layer."""

import contextlib
import dataclasses

import torch

from ..runtime.errors import UserError, reading
from .classifier import Classifier, Description, Whole, build_network, misfit_of


def cut(weights, description: Description, keep, where: str) -> tuple[dict[str, torch.Tensor], Whole | None]:
    """The weights with the rows of the classes ``keep`` alone in whatever depends on the number of classes, in that order; and
    what the network was before, None where the weights have nothing of the kind, and so do not fit.

    ``description``: of the network with these classes alone. Raises UserError where a class is none of the network's.
    """
    whole = {name: weights[name] for name in _heads(description, weights, where, "remove keep")}
    if not whole:
        return weights, None
    for value in whole.values():
        if max(keep) >= len(value):
            raise UserError(f"{where}: has {len(value)} classes, 0 to {len(value) - 1}, but keep has {max(keep)}; correct keep")
    return _narrow(weights, whole, keep), Whole(max(map(len, whole.values())), tuple(keep), whole, description.arguments)


def _heads(description: Description, weights, where: str, remedy: str) -> list[str]:
    """The names of the weights that depend on the number of classes in a network of this description: those that have another
    shape where it is built for one class more. Raises UserError where nothing does, or where its classes are not its rows."""
    more = dataclasses.replace(description, classes=(*description.classes, "one more"))
    state, other = build_network(description).state_dict(), build_network(more).state_dict()
    depending = [name for name, value in state.items() if value.shape != other[name].shape]
    if not depending:
        raise UserError(f"{where}: nothing in it depends on the number of classes, so it cannot be cut to some; {remedy}")
    heads = [name for name in depending if name in weights]
    for name in heads:
        shape = weights[name].shape
        if len(shape) != state[name].ndim or shape[1:] != state[name].shape[1:]:
            raise UserError(f"{where}: {name} has shape {tuple(shape)}, so its classes cannot be identified; {remedy}")
    return heads


def _narrow(weights, heads, keep) -> dict[str, torch.Tensor]:
    return {**weights, **{name: weights[name][list(keep)] for name in heads}}


def uncut(classifier: Classifier, where) -> Classifier:
    """A network as it was before it was cut, frozen and in eval mode; classes that were cut off are named by their numbers.

    Raises UserError where it was not cut; ``where`` it lies, for the error.
    """
    whole = classifier.whole
    if not whole:
        raise UserError(f"{where}: is not cut to some of its classes, so outputs: all has no effect; set outputs: kept")
    names = dict(zip(whole.keep, classifier.description.classes))
    classes = tuple(names.get(place, str(place)) for place in range(whole.count))
    description = dataclasses.replace(classifier.description, classes=classes, arguments=whole.arguments)
    weights = {**classifier.net.state_dict(), **whole.tensors}
    with reading(where, "what it was before it was cut does not fit"):
        if description.builder != "factory":
            with contextlib.suppress(NotImplementedError):  # some of torchvision's need values of their weights to be built
                if misfit := misfit_of(lambda: build_network(description), weights):
                    raise ValueError(misfit)
        net = build_network(description)
        net.load_state_dict(weights)
    device = classifier.mean.device
    return Classifier(net, description).to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def recut(classifier: Classifier, classes: tuple[str, ...], keep) -> Classifier:
    """A network, and its snapshots, cut to ``classes``, which in it have the numbers ``keep``; in eval mode.

    Raises UserError where more than its head depends on the number of classes.
    """
    description, weights = dataclasses.replace(classifier.description, classes=classes), classifier.net.state_dict()
    heads = _heads(description, weights, description.spelled, "set outputs: kept")
    net = build_network(description)
    net.load_state_dict(_narrow(weights, heads, keep))
    student = Classifier(net, description).to(classifier.mean.device, memory_format=torch.channels_last).eval()
    student.seen = classifier.seen
    student.snapshots = {seen: _narrow(weights, heads, keep) for seen, weights in classifier.snapshots.items()}
    return student
