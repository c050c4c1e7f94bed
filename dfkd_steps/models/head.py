"""Networks that are cut to some of their classes: what depends on the number of classes, as a rule the last layer."""

import contextlib
import dataclasses

import torch

from ..runtime.errors import UserError, reading
from .classifier import Classifier, Description, Whole, build_network


def cut(weights, description: Description, keep, where: str, remedy="remove keep") -> tuple[dict, Whole | None]:
    """The weights with the rows of the classes ``keep`` alone in whatever depends on the number of classes, in that order; and
    what the network was before, None where the weights have nothing of the kind, and so do not fit.

    ``description``: of the network with these classes alone. What depends on their number is found by building it for one more.
    Raises UserError, with this remedy, where a class is none of the network's.
    """
    more = dataclasses.replace(description, classes=(*description.classes, "one more"))
    state, other = build_network(description).state_dict(), build_network(more).state_dict()
    depending = [key for key, value in state.items() if value.shape != other[key].shape]
    if not depending:
        raise UserError(f"{where}: nothing in it depends on the number of classes, so it cannot be cut to some; {remedy}")
    heads = {key: weights[key] for key in depending if key in weights}
    for key, value in heads.items():
        if value.ndim != state[key].ndim or value.shape[1:] != state[key].shape[1:]:
            raise UserError(f"{where}: {key} has shape {tuple(value.shape)}, so its classes cannot be identified; {remedy}")
        if max(keep) >= len(value):
            raise UserError(f"{where}: has {len(value)} classes, 0 to {len(value) - 1}, but keep has {max(keep)}; correct keep")
    if not heads:
        return weights, None
    narrow = {key: value[list(keep)] for key, value in heads.items()}
    return {**weights, **narrow}, Whole(max(map(len, heads.values())), tuple(keep), heads, description.arguments)


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
        # In outline first: a file whose description is larger than its weights takes no memory. Not code of the user's, nor
        # those of torchvision that need values of their weights to be built.
        with contextlib.suppress(NotImplementedError), torch.device("cpu" if description.builder == "factory" else "meta"):
            if any(value.shape != weights[name].shape for name, value in build_network(description).state_dict().items()):
                raise ValueError("other shapes")
        net = build_network(description)
        net.load_state_dict({name: weights[name] for name in net.state_dict()})
    device = classifier.mean.device
    return Classifier(net, description).to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def recut(classifier: Classifier, classes: tuple[str, ...], keep) -> Classifier:
    """A network, and its snapshots, cut to ``classes``, which in it have the numbers ``keep``; in eval mode.

    Raises UserError where more than its head depends on the number of classes.
    """
    description = dataclasses.replace(classifier.description, classes=classes)

    def narrow(weights):
        return cut(weights, description, keep, description.spelled, "set outputs: kept")[0]

    net = build_network(description)
    net.load_state_dict(narrow(classifier.net.state_dict()))
    student = Classifier(net, description).to(classifier.mean.device, memory_format=torch.channels_last).eval()
    student.seen = classifier.seen
    student.snapshots = {seen: narrow(weights) for seen, weights in classifier.snapshots.items()}
    return student
