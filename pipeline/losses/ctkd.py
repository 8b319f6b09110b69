"""Curriculum temperature: KD at a temperature that learns to make it harder.

Li et al., "Curriculum Temperature for Knowledge Distillation", arXiv 2211.16231, its global
temperature, as released.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import nn

from logitbank.pipeline.bounds import Count, FinitePositive, Weight
from logitbank.pipeline.losses.cross_entropy import cross_entropy_loss
from logitbank.pipeline.losses.kd import kd_loss
from logitbank.pipeline.losses.loss import Loss, LossInputs, Terms, share_of_run
from logitbank.pipeline.losses.published import Published


@dataclass(frozen=True)
class CTKD(Loss):
    """The loss `ce` · cross-entropy + `kd` · KL at T = `start` + `span` · σ(θ), with θ learned.

    `loops` is L, the epochs, counted from 1, over which the reversal of θ's gradient grows to full.
    The release's settings are the published ones.
    """

    name: ClassVar[str] = "ctkd"
    published: ClassVar[Published | None] = Published(
        cifar={"ce": 0.1, "kd": 0.9, "loops": 10},
        imagenet={"ce": 1.0, "kd": 1.0, "loops": 5},
    )

    ce: Weight
    kd: Weight
    loops: Count
    start: FinitePositive = 1.0
    span: Weight = 20.0

    def terms(self, inputs: LossInputs) -> Terms:
        """Compute `loss`, `loss_ce`, `loss_kd` and the `temperature`."""
        [(student, teacher)] = self.pairs(inputs)
        if inputs.learned is None:
            raise ValueError(f"{self.name} needs the module that its learned_module() builds")
        ce = cross_entropy_loss(student, inputs.targets)
        temperature = inputs.learned(inputs.epoch)
        distilled = kd_loss(self.distilled(student), self.distilled(teacher), temperature)
        return {
            "loss": self.ce * ce + self.kd * distilled,
            "loss_ce": ce,
            "loss_kd": distilled,
            "temperature": temperature,
        }

    def learned_module(self) -> LearnedTemperature:
        """Return a new temperature, which a call takes as `learned`."""
        return LearnedTemperature(self)

    def scaled(self, epochs: int, published_epochs: int) -> Self:
        """Return the loss with the same share of a shorter run for its reversal to grow."""
        return dataclasses.replace(self, loops=share_of_run(self.loops, epochs, published_epochs))


class StandardisedCTKD(CTKD):
    """CTKD on standardised logits, by the script that arXiv 2403.01427 releases.

    On ImageNet the released script passes the weight 2 and the temperature 9, which nothing reads:
    taken here for the weight 9 and the temperature 2 of the same release's KD.
    """

    name = "ctkd+ls"
    standardised = True
    published = Published(
        cifar={"ce": 0.1, "kd": 9.0, "loops": 10},
        imagenet={"ce": 1.0, "kd": 9.0, "loops": 5},
    )


def reversal(epoch: int, loops: int) -> float:
    """Return λ(e) = (cos(π · min(e, L) / L) - 1) / 2, what θ's gradient is multiplied by.

    It falls from 0 to -1 on a cosine. The release counts e from 1, so λ is below 0 from the start.

    Args:
        epoch: counted from 0, so that e = epoch + 1.
        loops: L.

    >>> round(reversal(0, 10), 6), round(reversal(4, 10), 6), reversal(9, 10), reversal(99, 10)
    (-0.024472, -0.5, -1.0, -1.0)
    """
    return (math.cos(math.pi * min(epoch + 1, loops) / loops) - 1) / 2


def scale_gradient(values: torch.Tensor, factor: float) -> torch.Tensor:
    """Return the values unchanged; their gradient is multiplied by `factor` on its way back.

    Ganin and Lempitsky's gradient reversal layer, arXiv 1409.7495, where `factor` is below 0.
    """
    return _ScaleGradient.apply(values, factor)  # type: ignore[no-untyped-call]


class LearnedTemperature(nn.Module):
    """θ, and the temperature that it stands for; θ starts at 1, so T at 1 + 20 · σ(1) = 15.6.

    Its parameter goes to the student's own optimiser, weight decay and all, as released, and its
    state to the student's checkpoint.

    Args:
        loss: the loss whose `start`, `span` and `loops` it follows.
    """

    def __init__(self, loss: CTKD) -> None:
        super().__init__()
        self.loss = loss
        self.theta = nn.Parameter(torch.ones(()))

    def forward(self, epoch: int) -> torch.Tensor:
        """Return T as a scalar, through which a loss's gradient reaches θ reversed.

        Args:
            epoch: counted from 0.
        """
        theta = scale_gradient(self.theta, reversal(epoch, self.loss.loops))
        return self.loss.start + self.loss.span * torch.sigmoid(theta)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.factor * gradients[0], None
