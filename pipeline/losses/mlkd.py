"""Multi-level logit distillation: instances, classes and the batch, at several temperatures.

Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023, as its code is released, oddities
included, since the published figures come from it:

- The masks of confidence don't choose images or classes. Each loss is averaged first, then
  multiplied by the mask, then averaged again, so that a mask only scales it, by its fraction.
- Of the strong view's temperatures, 2 and 6 take the weak view's logits, without any mask. So the
  weak view is taught twice at these two, and the strong view not at all.
- The correlations of classes and of the batch are computed for the strong view as well, but never
  added: here they are not computed.
- The confidences by class are sums over the batch of the teacher's probabilities, at temperature 1,
  as the confidences of images are maxima of them.
- With standardised logits the KL terms alone see these; the correlations and the confidences take
  the logits as they are. The base temperature is 2 then, and so is one of the fixed ones: both
  count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F

from logitbank.pipeline.bounds import FinitePositive, Weight
from logitbank.pipeline.losses.cross_entropy import cross_entropy_loss
from logitbank.pipeline.losses.kd import kd_loss
from logitbank.pipeline.losses.logits import at_least_float32
from logitbank.pipeline.losses.loss import Loss, LossInputs, Terms
from logitbank.pipeline.losses.published import Published
from logitbank.pipeline.losses.standardise import standardise

STRONG_TEMPERATURES = (3.0, 5.0)
"""Of the strong view's terms, besides the base temperature."""

STRONG_ON_WEAK_TEMPERATURES = (2.0, 6.0)
"""Of the strong view's terms that the release computes on the weak view."""


@dataclass(frozen=True)
class MLKD(Loss):
    """The loss `ce` · (cross-entropy of both views) + `kd` · (KL + CC + BC).

    `temperature` is the base one, beside 2, 3, 5 and 6. The release's settings are the published
    ones.
    """

    name: ClassVar[str] = "mlkd"
    views: ClassVar[int] = 2
    published: ClassVar[Published | None] = Published(
        cifar={"ce": 0.1, "kd": 0.9, "temperature": 4.0},
        imagenet={"ce": 0.5, "kd": 0.5, "temperature": 1.0},
    )

    ce: Weight
    kd: Weight
    temperature: FinitePositive

    def terms(self, inputs: LossInputs) -> Terms:
        """Compute `loss`, `loss_ce`, `loss_kd` (the KL), `loss_cc` and `loss_bc`."""
        (student_weak, teacher_weak), (student_strong, teacher_strong) = self.pairs(inputs)
        targets = inputs.targets
        ce = cross_entropy_loss(student_weak, targets) + cross_entropy_loss(student_strong, targets)
        levels = mlkd_losses(
            student_weak,
            student_strong,
            teacher_weak,
            teacher_strong,
            self.temperature,
            standardised=self.standardised,
        )
        distilled = levels.kl + levels.class_correlation + levels.batch_correlation
        return {
            "loss": self.ce * ce + self.kd * distilled,
            "loss_ce": ce,
            "loss_kd": levels.kl,
            "loss_cc": levels.class_correlation,
            "loss_bc": levels.batch_correlation,
        }


class StandardisedMLKD(MLKD):
    """MLKD on standardised logits, by the command of arXiv 2403.01427's release.

    The weight 9 is that of the correlations too, which are not standardised. On ImageNet the
    settings are what the same command makes of that configuration.
    """

    name = "mlkd+ls"
    standardised = True
    published = Published(
        cifar={"ce": 0.1, "kd": 9.0, "temperature": 2.0},
        imagenet={"ce": 0.5, "kd": 9.0, "temperature": 2.0},
    )


class MLKDLosses(NamedTuple):
    """The three levels of a batch, each a scalar: of instances, of classes, of the batch."""

    kl: torch.Tensor
    class_correlation: torch.Tensor
    batch_correlation: torch.Tensor


def mlkd_losses(
    student_weak: torch.Tensor,
    student_strong: torch.Tensor,
    teacher_weak: torch.Tensor,
    teacher_strong: torch.Tensor,
    temperature: float,
    *,
    standardised: bool = False,
) -> MLKDLosses:
    """Compute the losses of the module's docstring, unweighted.

    With 𝒯 = (T0, 2, 3, 5, 6), and m and c the fractions of images and of classes at or below the
    median of the teacher's confidence: KL is m · Σ_𝒯 KL_T(weak) + Σ_{T0, 3, 5} KL_T(strong) +
    Σ_{2, 6} KL_T(weak), the others are c · Σ_𝒯 CC_T(weak) and m · Σ_𝒯 BC_T(weak).

    Args:
        student_weak: (B, C) floating, likewise the others; half precision is computed in float32.
        student_strong: of the strong view.
        teacher_weak: no gradient flows into it.
        teacher_strong: likewise.
        temperature: T0, above 0.
        standardised: take the KL of standardised logits.

    Returns:
        Scalars of the logits' dtype, at least float32; finite for all finite logits.
    """
    every = (temperature, *STRONG_TEMPERATURES, *STRONG_ON_WEAK_TEMPERATURES)
    images, classes = confidence_fractions(teacher_weak)
    scaled = standardise if standardised else at_least_float32
    weak = scaled(student_weak), scaled(teacher_weak)
    strong = scaled(student_strong), scaled(teacher_strong)
    kl = images * _sum(kd_loss(*weak, t) for t in every)
    kl = kl + _sum(kd_loss(*strong, t) for t in (temperature, *STRONG_TEMPERATURES))
    kl = kl + _sum(kd_loss(*weak, t) for t in STRONG_ON_WEAK_TEMPERATURES)
    softened = [(_softened(student_weak, t), _softened(teacher_weak.detach(), t)) for t in every]
    return MLKDLosses(
        kl=kl,
        class_correlation=classes * _sum(class_correlation_loss(*pair) for pair in softened),
        batch_correlation=images * _sum(batch_correlation_loss(*pair) for pair in softened),
    )


def confidence_fractions(teacher_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return m and c, the fractions that the release's masks amount to.

    Args:
        teacher_logits: (B, C) floating, of the weak view.

    Returns:
        The fraction of the images whose largest probability is at most the median of all, and that
        of the classes whose sum of probabilities is; the median of an even number lies between the
        middle two, as numpy's percentile. Scalars.
    """
    p = _softened(teacher_logits.detach(), 1.0)
    return _at_most_median(p.amax(dim=1)), _at_most_median(p.sum(dim=0))


def class_correlation_loss(p_student: torch.Tensor, p_teacher: torch.Tensor) -> torch.Tensor:
    """Compute CC = ‖PₜᵀPₜ - PₛᵀPₛ‖² / C of (B, C) probabilities, the norm being Frobenius'."""
    difference = p_teacher.T @ p_teacher - p_student.T @ p_student
    return difference.square().sum() / p_teacher.shape[1]


def batch_correlation_loss(p_student: torch.Tensor, p_teacher: torch.Tensor) -> torch.Tensor:
    """Compute BC = ‖PₜPₜᵀ - PₛPₛᵀ‖² / B of (B, C) probabilities, the norm being Frobenius'."""
    difference = p_teacher @ p_teacher.T - p_student @ p_student.T
    return difference.square().sum() / p_teacher.shape[0]


def _softened(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return F.softmax(at_least_float32(logits) / temperature, dim=1)


def _at_most_median(values: torch.Tensor) -> torch.Tensor:
    # torch's median is the lower of the middle two: as many values are at or below it as are below
    # their mean, which could round to the upper one.
    return (values <= values.median()).to(values.dtype).mean()


def _sum(losses: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(losses)).sum()
