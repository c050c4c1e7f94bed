"""Tiny classifiers and sets of random images, for the tests that need a teacher."""

import numpy as np
import torch
from torch import nn

from dfkd_steps.models import registry
from dfkd_steps.models.classifier import Classifier, Description, build_architecture
from dfkd_steps.storage import network_file
from dfkd_steps.storage.transfer_set import Layout, Writer
from dfkd_steps.training.predict import predict

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)


def close(found, wanted, rtol=1e-4, atol=1e-6):
    """Raise AssertionError unless two tensors are nearly equal. (torch.testing takes four seconds to import.)"""
    np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol, atol)


def wrap(net, shape=SHAPE, classes=10, name="none", **how):
    """A frozen classifier around any network."""
    described = {"mean": (0.3,) * shape[0], "std": (0.4,) * shape[0], **how}
    description = Description("arch", name, tuple(map(str, range(classes))), shape, **described)
    return Classifier(net, description).eval().requires_grad_(False)


def classifier(arch="resnet8", shape=SHAPE, classes=10, seed=0):
    """A registered architecture with random weights; its BatchNorm statistics are those of random images."""
    torch.manual_seed(seed)
    made = wrap(build_architecture(arch, classes, shape), shape, classes, arch, task=registry.task_of(arch))
    with torch.no_grad():
        made.train()(torch.rand(32, *shape) ** 2)
    return made.eval()


def convolutions(classes=3):
    """Two convolutions with BatchNorm, mean pooling, one linear layer, as a sequence: to be followed by hand."""
    torch.manual_seed(0)
    norms = nn.BatchNorm2d(3), nn.BatchNorm2d(4)
    for norm in norms:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), norms[0], nn.ReLU(), nn.Conv2d(3, 4, 3), norms[1], nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes),
    )  # fmt: skip


def write(folder, teacher, number=40, *, weights=False, source=None, kept=None):
    """A transfer set of random images with the teacher's logits; ``kept``: networks by name. Returns its path."""
    described, rng = teacher.description, np.random.default_rng(0)
    layout = Layout(described.image_shape, described.num_classes, targets=False, weights=weights, source=source is not None)
    images = rng.integers(0, 256, (number, *described.image_shape), np.uint8)
    logits = predict(teacher, images, CPU)
    fields = {"images": images, "logits": logits, "labels": logits.argmax(1), "round": np.zeros(number)}
    if weights:
        fields["weights"] = np.arange(number) * 2 / (number - 1)
    if source is not None:
        fields["source"] = source
    path = folder / "transfer_set.h5"
    writer = Writer(path, "set", layout, number, resume=False)
    writer.append(**fields)
    writer.finish({}, {"label": "test"}, {name: network_file.to_bytes(one) for name, one in (kept or {}).items()})
    return path
