"""What somebody who uses the package as a library may get wrong, and what it says then (docs/library.md)."""

import pytest
import torch
from small_net import CPU, classifier

from dfkd_steps.methods import registry
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.training import views

IMAGES = torch.rand(2, 1, 8, 8)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: registry.load("dfadd"), "method: 'dfadd' is unknown; did you mean dfad[?] known: "),
        (lambda: registry.config_class("fast-5"), "method: 'fast-5' is unknown; did you mean fast[?] known: "),
        (
            lambda: views.view("flipcrop", IMAGES, None),
            "view: 'flipcrop' is unknown; did you mean flip-crop[?] known: none, sh",
        ),
        (
            lambda: views.mix("cut-mix", IMAGES, None),
            "mix: 'cut-mix' is unknown; did you mean cutmix[?] known: none, mixup",
        ),
    ],
)
def test_an_unknown_name_lists_the_known_ones(call, said):
    with pytest.raises(UserError, match=f"^{said}"):
        call()


@pytest.mark.parametrize("name", ["noise", "deepinversion"])
def test_a_teacher_in_training_mode_is_refused(name):
    """Its BatchNorm would answer by the statistics of each batch, and learn those of noise."""
    teacher = classifier().train()
    method = registry.load(name)
    with pytest.raises(UserError, match=r"^teacher: is in training mode, .*; call \.eval\(\)\.requires_grad_\(False\)$"):
        method(method.Config(method=name, n=4, batch=4), teacher, [], CPU)
