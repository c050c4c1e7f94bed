"""The loss of a student by its name.

A loss is a function of the logits of student and teacher (N,K), or (N,K,H,W) for segmentation, and of the keyword ``tau``, a
temperature. It returns the loss of each sample (N).
"""

import functools
import importlib

import torch

from ..models import names
from ..runtime import factory
from ..runtime.errors import UserError
from ..schemas.student_losses import REGISTRY

SAMPLES = 3  # of the logits that a loss of the user's is tried on


def load(name: str, tau: float, description):
    """The loss ``name`` at temperature ``tau``: a function of logits of student and teacher, (N,K,...) each -> (N).

    description: of the teacher, which says K and whether logits are maps. Raises UserError where a factory's function does not
    give a finite loss with a gradient for each sample.
    """
    if name in REGISTRY:
        module, function, arguments = REGISTRY[name]
        return functools.partial(
            getattr(importlib.import_module(f"dfkd_steps.training.{module}"), function), tau=tau, **arguments
        )
    _, spelled = names.split(name)
    loss = functools.partial(_each, functools.partial(factory.load(spelled, "loss"), tau=tau), spelled)
    if fault := _fault(loss, spelled, description):
        raise UserError(f"loss: {spelled!r} {fault}")
    return loss


def _each(loss, spelled, student, teacher):
    """What a loss of the user's gives (N), in every step; raises UserError where it gives anything else, or fails."""
    each = factory.call(spelled, "loss", lambda: loss(student, teacher))
    if not isinstance(each, torch.Tensor) or each.shape != (len(student),):
        given = f"shape {tuple(each.shape)}" if isinstance(each, torch.Tensor) else f"type {type(each).__name__}"
        raise UserError(
            f"loss: {spelled!r} returns a value of {given} for {len(student)} samples; return one loss per sample, of shape (N)"
        )
    return each


def _fault(loss, spelled, description) -> str | None:
    """What is wrong with a loss of the user's, with the remedy, or None."""
    shape = (SAMPLES, description.num_classes, *(description.image_shape[1:] if description.dense else ()))
    student, teacher = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    each, gradient = loss(student.requires_grad_(), teacher), None
    if each.requires_grad:
        gradient = factory.call(spelled, "loss", lambda: torch.autograd.grad(each.sum(), student, allow_unused=True)[0])
    if gradient is None or not gradient.any():
        return "has no gradient with respect to the student's logits; compute it from these, without detach or argmax"
    if not (torch.isfinite(each).all() and torch.isfinite(gradient).all()):
        return "is not finite for ordinary logits; clamp what it divides by or takes the logarithm of"
    return None
