"""Swapped logit distillation: two teachers whose logits are swapped, the second the student itself.

"Swapped Logit Distillation via Bi-level Teacher Alignment", arXiv 2504.20108, as its code is
released:

- No gradient is stopped in the second teacher: it flows through the swap into the student's logits
  as well, so that the student is drawn to what it would have to say, and that back to the student.
  `stop_gradient` stops it.
- γ is hard-coded there at 150, the last epoch before the first drop of the learning rate on
  CIFAR-100; on ImageNet's 100 epochs the second teacher then never comes. Here γ is a setting, for
  ImageNet 30 by default, the last epoch before that schedule's first drop.

What the teacher's logits are swapped from is the store's matter. Only those of a teacher in the
loop are swapped here, in float32; a raw store is read with its own swap, since decoded logits may
tie at the top where the teacher's did not, and the store alone knows the teacher's order. Both keep
one rule: a label that ties for the maximum is right, of other tied classes the first is largest. A
store with a correction is taken as it is: on a swapped one that is SLD, on a sorted one sort's
teacher beside SLD's second one, what the two papers together suggest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from logitbank.pipeline.losses.kd import kd_loss, softened_kl
from logitbank.pipeline.losses.settings import require_weights
from logitbank.pipeline.losses.swap import swap_logits
from logitbank.stores.errors import UsageError


@dataclass(frozen=True)
class SLDSettings:
    """The loss `ce` · cross-entropy + `kd` · Σ_T (KL to the teacher + KL to the student swapped).

    All terms are summed over the views. `gamma` is γ, the last epoch, counted from 1, without the
    second teacher. `swap_teacher` says that the teacher's logits are still to be swapped.
    """

    ce: float
    kd: float
    temperatures: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    gamma: int = 150
    stop_gradient: bool = False
    swap_teacher: bool = True

    def __post_init__(self) -> None:
        require_weights(self, ("ce", "kd", "gamma"))
        if not self.temperatures or not all(0 < t < float("inf") for t in self.temperatures):
            raise UsageError(
                f"temperatures must be one or more above 0, not {list(self.temperatures)}"
            )


CIFAR_SLD = SLDSettings(ce=0.1, kd=0.9)
"""The release's for CIFAR-100."""

IMAGENET_SLD = SLDSettings(ce=0.5, kd=0.5, gamma=30)
"""The release's for ImageNet, of students that `IMAGENET_SLD_CE` doesn't name."""

IMAGENET_SLD_CE = {"MobileNetV1": 1.0, "MobileNetV2": 1.0}
"""The weight of the cross-entropy by student, where the release's differs from 0.5.

It calls the student MobileNetV2; the network that it defines under that name is V1.
"""

CIFAR_SLD_KD = SLDSettings(ce=0.1, kd=4.0, temperatures=(4.0,))
"""The release's KD-only variant, on the weak view alone."""

IMAGENET_SLD_KD = SLDSettings(ce=0.1, kd=4.0, temperatures=(4.0,), gamma=30)
"""The same with ImageNet's first drop; the release has no weights of its own for it."""


def has_second_teacher(epoch: int, gamma: int) -> bool:
    """Tell whether an epoch, counted from 0, comes after epoch γ, counted from 1.

    >>> has_second_teacher(149, 150), has_second_teacher(150, 150)
    (False, True)
    """
    return epoch + 1 > gamma


def teacher_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    settings: SLDSettings,
) -> torch.Tensor:
    """Compute Σ_T KL_T(student, swapped teacher) of one view.

    Args:
        student_logits: (B, C) floating; half precision is computed in float32.
        teacher_logits: (B, C) floating; no gradient flows into it.
        targets: (B,) int64.
        settings: `temperatures`, and whether to swap.

    Returns:
        A scalar of the logits' dtype, at least float32; finite for all finite logits.
    """
    if settings.swap_teacher:
        teacher_logits = swap_logits(teacher_logits, targets)
    losses = [kd_loss(student_logits, teacher_logits, t) for t in settings.temperatures]
    return torch.stack(losses).sum()


def second_teacher_loss(
    student_logits: torch.Tensor, targets: torch.Tensor, settings: SLDSettings
) -> torch.Tensor:
    """Compute Σ_T KL_T(student, swapped student) of one view; 0 where the student is right.

    Args:
        student_logits: (B, C) floating; half precision is computed in float32.
        targets: (B,) int64.
        settings: `temperatures`, and whether to stop the gradient into the swapped logits.

    Returns:
        A scalar of the logits' dtype, at least float32; finite for all finite logits.
    """
    swapped = swap_logits(student_logits, targets)
    if settings.stop_gradient:
        swapped = swapped.detach()
    losses = [softened_kl(student_logits, swapped, t) for t in settings.temperatures]
    return torch.stack(losses).sum()
