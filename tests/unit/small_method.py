"""Methods at tiny sizes, and measures of their images that do not go through the code of the methods."""

import copy

import torch
import torch.nn.functional as F
from small_net import CPU

from dfkd_steps.methods import registry as method_registry
from dfkd_steps.methods.engines.objective import Objective

ALTERNATING = {
    "n": 8, "batch": 8, "rounds": 1, "turns": 12, "steps_s": 1, "train_batch": 16, "latent": 4, "width": 4,
    "student": "resnet8", "view_s": "none",
}  # fmt: skip
INVERSION = {
    "n": 16, "batch": 8, "rounds": 4, "warmup": 1, "steps_s": 1, "batch_s": 8, "student": "resnet8", "view": "none",
    "view_s": "none",
}  # fmt: skip
GENERATOR = {"latent": 4, "width": 4}
PIXELS = {"n": 16, "batch": 16, "steps": 25, "lr": 0.1, "view": "none"}
SMALL = {
    **dict.fromkeys(("dafl", "dfad", "dfq", "zskt"), ALTERNATING),
    "adi": {**INVERSION, "batch": 16, "steps": 25, "lr": 0.1},
    "cmi": {**INVERSION, **GENERATOR, "steps": 4, "bank": 8},
    "deepinversion": PIXELS,
    "psaq": {**PIXELS, "schedule": "constant"},
    "fast": {**INVERSION, **GENERATOR, "steps": 2},
    "nayer": {**INVERSION, **GENERATOR, "steps": 2, "batches_warmup": 1},
    "ssd-kd": {**INVERSION, **GENERATOR, "steps": 2},
    "generative": {"n": 16, "batch": 16, "rounds_each": 1, "steps": 15, "train_batch": 16, "view": "none", **GENERATOR},
}
WEIGHTS = (
    "onehot", "balance", "roughness", "patches", "activation", "bn", "bn_kl", "moments", "tv", "l2", "adversarial", "jsd",
    "contrastive",
)  # fmt: skip


def build(name, teacher, sources=(), **changes):
    """A method by name on one thread of the CPU; ``changes`` replace what is tiny here."""
    cls = method_registry.load(name)
    return cls(cls.Config(method=name, **{**SMALL.get(name, {}), **changes}), teacher, list(sources), CPU)


def alone(name, term, weight=1.0):
    """The values of a config that switch every loss of a method off but one."""
    known = method_registry.load(name).Config.__dataclass_fields__
    return {**{one: 0.0 for one in WEIGHTS if one in known}, term: weight}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sampled(generator, number=64, seed=7):
    """Images of latent vectors that no training saw, by the statistics of their own batch; the generator stays as it is."""
    net = copy.deepcopy(generator).train()
    with torch.no_grad():
        return net(*net.draw(number, rng(seed)))


def answers(net, images):
    """Logits (N,K) of a network in eval mode, without gradient."""
    with torch.no_grad():
        return net.eval()(images)


def divergence(student_logits, teacher_logits):
    """KL(teacher || student) in nats, mean over the images."""
    p = F.softmax(teacher_logits, 1)
    return (p * (p.log() - F.log_softmax(student_logits, 1))).sum(1).mean().item()


def spy_on_targets(monkeypatch):
    """A list that collects the target labels that every ``Objective`` is given from now on."""
    seen, forward = [], Objective.forward

    def spied(self, images, targets=None, student=None):
        seen.append(targets)
        return forward(self, images, targets, student)

    monkeypatch.setattr(Objective, "forward", spied)
    return seen
