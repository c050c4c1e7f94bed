"""A teacher's pass with all that an objective looks at, as one call: what a compiler can turn into one graph."""

import copy

import torch
from torch import nn

from ...models import hooks
from . import image_losses


class ObservedTeacher(nn.Module):
    """A copy of a frozen teacher whose hooks stay for good, as a compiled network does not see hooks that come and go.

    layer: ``last_linear`` of the teacher, whose input is given too; None: nobody asks. norms: are the statistics of what enters
    the BatchNorm layers asked for?
    """

    def __init__(self, teacher, layer, norms: bool):
        super().__init__()
        teacher, layer = copy.deepcopy((teacher, layer))  # together, so that the layer stays one of the teacher's
        self.teacher, self.norms = teacher, []
        if norms:
            with torch.no_grad(), hooks.batchnorm_inputs(teacher.net) as seen:
                teacher(torch.zeros(2, *teacher.description.image_shape, device=teacher.mean.device))
            self.norms = [norm for norm, _ in seen]  # in the order of use; one that is used twice, twice
        self._keep_inputs_of(set(self.norms), "_entered")
        self._keep_inputs_of({layer} - {None}, "_features")

    def _keep_inputs_of(self, layers, name: str):
        setattr(self, name, [])
        for layer in layers:
            layer.register_forward_pre_hook(lambda _, inputs: getattr(self, name).append(inputs[0]))

    def forward(self, images):
        """Images (N,C,H,W) -> logits (N,K), features [(N,D)] or [], and (mean (C), var (C)) of each input of BatchNorm."""
        self._entered, self._features = [], []
        logits = self.teacher(images)
        features, statistics = self._features, [image_losses.moments(values) for values in self._entered]
        self._entered, self._features = [], []  # or the graph would give them out too
        return logits, features, statistics
