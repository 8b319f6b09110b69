"""Swapped logit distillation: two teachers whose logits are swapped, the second the student itself.

"Swapped Logit Distillation via Bi-level Teacher Alignment", arXiv 2504.20108, as its code is
released:

- No gradient is stopped in the second teacher: it flows through the swap into the student's logits
  as well, so that the student is drawn to its swapped logits, and these back to the student.
  `stop_gradient` stops it.
- γ is hard-coded there at 150, the last epoch before the first drop of the learning rate on
  CIFAR-100; on ImageNet's 100 epochs the second teacher then never comes. Here γ is a setting, for
  ImageNet 30 by default, the last epoch before that schedule's first drop.

Stores swap their own logits. Only those of a teacher in the loop are swapped here, in float32; a
raw store is read with its own swap, since decoded logits may tie at the top where the teacher's did
not, and the store alone knows the teacher's order. Both keep one rule: a label that ties for the
maximum is right, of other tied classes the first is largest. A store with a correction is taken as
it is: on a swapped one that is SLD, on a sorted one it combines sort's teacher with SLD's second
one, as the two papers together suggest.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field

from logitbank.pipeline.bounds import Expected, FinitePositive, NonNegativeInt, Weight
from logitbank.pipeline.losses.cross_entropy import cross_entropy_loss
from logitbank.pipeline.losses.kd import kd_loss, softened_kl
from logitbank.pipeline.losses.loss import Loss, LossInputs, Terms
from logitbank.pipeline.losses.published import ANY, IMAGENET, Published
from logitbank.pipeline.losses.swap import swap_logits

Temperatures = Annotated[
    tuple[FinitePositive, ...], Field(min_length=1), Expected("one or more above 0")
]


@dataclass(frozen=True)
class SLD(Loss):
    """The loss `ce` · cross-entropy + `kd` · Σ_T (KL to the teacher + KL to the student swapped).

    All terms are summed over the views. `gamma` is γ, the last epoch, counted from 1, without the
    second teacher. `swap_teacher` is whether the teacher's logits are still to be swapped. The
    release's settings are the published ones; it calls the student of ImageNet MobileNetV2, but the
    network that it defines under that name is V1.
    """

    name: ClassVar[str] = "sld"
    views: ClassVar[int] = 2
    needs_one_label: ClassVar[bool] = True
    own_correction: ClassVar[str | None] = "swap"
    published: ClassVar[Published | None] = Published(
        cifar={"ce": 0.1, "kd": 0.9},
        imagenet={"ce": 0.5, "kd": 0.5, "gamma": 30},
        pairs={
            (IMAGENET, ANY, "MobileNetV1"): {"ce": 1.0},
            (IMAGENET, ANY, "MobileNetV2"): {"ce": 1.0},
        },
    )

    ce: Weight
    kd: Weight
    temperatures: Temperatures = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    gamma: NonNegativeInt = 150
    stop_gradient: bool = False
    swap_teacher: bool = True

    def terms(self, inputs: LossInputs) -> Terms:
        """Compute `loss`, `loss_ce`, `loss_kd` and, from γ on, `loss_self`."""
        pairs, targets = self.pairs(inputs), inputs.targets
        ce = torch.stack([cross_entropy_loss(own, targets) for own, _ in pairs]).sum()
        distilled = torch.stack([teacher_loss(*pair, targets, self) for pair in pairs]).sum()
        terms = {"loss_ce": ce, "loss_kd": distilled}
        if has_second_teacher(inputs.epoch, self.gamma):
            to_itself = [second_teacher_loss(own, targets, self) for own, _ in pairs]
            terms["loss_self"] = torch.stack(to_itself).sum()
            distilled = distilled + terms["loss_self"]
        return {"loss": self.ce * ce + self.kd * distilled, **terms}

    def with_first_drop(self, epoch: int) -> Self:
        """Return the loss with γ at the first drop: as in the release, it follows the rate."""
        return dataclasses.replace(self, gamma=epoch)

    def on_logits(self, correction: str | None) -> Self:
        """Return the loss that swaps raw logits and leaves corrected ones."""
        return dataclasses.replace(self, swap_teacher=correction is None)


class WeakSLD(SLD):
    """The release's KD-only variant, on the weak view alone.

    Its γ for ImageNet is that schedule's first drop, as SLD's.
    """

    name = "sld-kd"
    views = 1
    published = Published(
        cifar={"ce": 0.1, "kd": 4.0, "temperatures": (4.0,)},
        imagenet={"ce": 0.5, "kd": 4.0, "temperatures": (1.0,), "gamma": 30},
    )


def has_second_teacher(epoch: int, gamma: int) -> bool:
    """Return whether an epoch, counted from 0, comes after epoch γ, counted from 1.

    >>> has_second_teacher(149, 150), has_second_teacher(150, 150)
    (False, True)
    """
    return epoch + 1 > gamma


def teacher_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    loss: SLD,
) -> torch.Tensor:
    """Compute Σ_T KL_T(student, swapped teacher) of one view.

    Args:
        student_logits: (B, C) floating; half precision is computed in float32.
        teacher_logits: (B, C) floating; no gradient flows into it.
        targets: (B,) int64.
        loss: `temperatures`, and whether to swap.

    Returns:
        A scalar of the logits' dtype, at least float32; finite for all finite logits.
    """
    if loss.swap_teacher:
        teacher_logits = swap_logits(teacher_logits, targets)
    losses = [kd_loss(student_logits, teacher_logits, t) for t in loss.temperatures]
    return torch.stack(losses).sum()


def second_teacher_loss(
    student_logits: torch.Tensor, targets: torch.Tensor, loss: SLD
) -> torch.Tensor:
    """Compute Σ_T KL_T(student, swapped student) of one view; 0 where the student is right.

    Args:
        student_logits: (B, C) floating; half precision is computed in float32.
        targets: (B,) int64.
        loss: `temperatures`, and whether to stop the gradient into the swapped logits.

    Returns:
        A scalar of the logits' dtype, at least float32; finite for all finite logits.
    """
    swapped = swap_logits(student_logits, targets)
    if loss.stop_gradient:
        swapped = swapped.detach()
    losses = [softened_kl(student_logits, swapped, t) for t in loss.temperatures]
    return torch.stack(losses).sum()
