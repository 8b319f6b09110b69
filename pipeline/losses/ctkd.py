"""Curriculum temperature: KD at a temperature that learns to make it harder.

Li et al., "Curriculum Temperature for Knowledge Distillation", arXiv 2211.16231, its global
temperature, as released.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from logitbank.pipeline.losses.settings import require_positive, require_weights


@dataclass(frozen=True)
class CTKDSettings:
    """The loss `ce` · cross-entropy + `kd` · KL at T = `start` + `span` · σ(θ), with θ learned.

    `loops` is L, the epochs, counted from 1, over which the reversal of θ's gradient grows to full.
    """

    ce: float
    kd: float
    loops: int
    start: float = 1.0
    span: float = 20.0

    def __post_init__(self) -> None:
        require_weights(self, ("ce", "kd", "span"))
        require_positive(self, ("start", "loops"))


CIFAR_CTKD = CTKDSettings(ce=0.1, kd=0.9, loops=10)
"""The release's for CIFAR-100."""

IMAGENET_CTKD = CTKDSettings(ce=1.0, kd=1.0, loops=5)
"""The release's for ImageNet."""

CIFAR_CTKD_LS = CTKDSettings(ce=0.1, kd=9.0, loops=10)
"""Those on standardised logits for CIFAR-100, of the script that arXiv 2403.01427 releases."""

IMAGENET_CTKD_LS = CTKDSettings(ce=1.0, kd=9.0, loops=5)
"""Those on standardised logits for ImageNet.

The released script passes the weight 2 and the temperature 9, which nothing reads: taken here for
the weight 9 and the temperature 2 of the same release's KD.
"""


def reversal(epoch: int, loops: int) -> float:
    """Give λ(e) = (cos(π · min(e, L) / L) - 1) / 2, what θ's gradient is multiplied by.

    It falls from 0 to -1 on a cosine. The release counts e from 1, so λ is below 0 from the start.

    Args:
        epoch: counted from 0, so that e = epoch + 1.
        loops: L.

    >>> round(reversal(0, 10), 6), round(reversal(4, 10), 6), reversal(9, 10), reversal(99, 10)
    (-0.024472, -0.5, -1.0, -1.0)
    """
    return (math.cos(math.pi * min(epoch + 1, loops) / loops) - 1) / 2


def scale_gradient(values: torch.Tensor, factor: float) -> torch.Tensor:
    """Return the values as they are, with the gradient multiplied by `factor` on its way back.

    Ganin and Lempitsky's gradient reversal layer, arXiv 1409.7495, where `factor` is below 0.
    """
    return _ScaleGradient.apply(values, factor)  # type: ignore[no-untyped-call]


class LearnedTemperature(nn.Module):
    """θ, and the temperature that it stands for; θ starts at 1, so T at 1 + 20 · σ(1) = 15.6.

    Its parameter goes to the student's own optimiser, weight decay and all, as released, and its
    state to the student's checkpoint.

    Args:
        settings: of the method.
    """

    def __init__(self, settings: CTKDSettings) -> None:
        super().__init__()
        self.settings = settings
        self.theta = nn.Parameter(torch.ones(()))

    def forward(self, epoch: int) -> torch.Tensor:
        """Give T as a scalar, through which a loss's gradient reaches θ reversed.

        Args:
            epoch: counted from 0.
        """
        settings = self.settings
        theta = scale_gradient(self.theta, reversal(epoch, settings.loops))
        return settings.start + settings.span * torch.sigmoid(theta)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.factor * gradients[0], None
