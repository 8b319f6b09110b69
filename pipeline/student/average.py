"""The exponential moving average of a student's weights."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import nn

from logitbank.pipeline.models import LoadedModel


class WeightAverage:
    """A network beside the student whose state follows the student's: a ← d · a + (1 - d) · s.

    Statistics of batch norm are averaged as weights are, whole numbers are copied, as in timm's
    `ModelEmaV3` without its warm-up.

    Args:
        model: the student, on its device, from whose state the average starts.
        decay: d, from 0 to below 1.
    """

    def __init__(self, model: LoadedModel, decay: float) -> None:
        module = copy.deepcopy(model.module).eval().requires_grad_(False)
        self.model = dataclasses.replace(model, module=module)
        self._decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Update the average with the student's state after a step."""
        own, new = self.model.module.state_dict(), module.state_dict()
        for name, value in own.items():
            if value.is_floating_point():
                value.lerp_(new[name], 1 - self._decay)
            else:
                value.copy_(new[name])
