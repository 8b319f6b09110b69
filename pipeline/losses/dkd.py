"""Decoupled knowledge distillation: the target's probability, and the distribution of the others.

Zhao et al., "Decoupled Knowledge Distillation", arXiv 2203.08679, in the form that mdistiller
releases.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F

from logitbank.pipeline.bounds import Count, FinitePositive, Weight
from logitbank.pipeline.losses.cross_entropy import cross_entropy_loss
from logitbank.pipeline.losses.logits import at_least_float32
from logitbank.pipeline.losses.loss import Loss, LossInputs, Terms, share_of_run
from logitbank.pipeline.losses.published import ANY, CIFAR, IMAGENET, Published

TARGET_MASK = 1000.0
"""What the release subtracts from the target's softened logit to leave it out."""


BETA = {
    (CIFAR, "resnet56", "resnet20"): 2.0,
    (CIFAR, "resnet110", "resnet32"): 2.0,
    (CIFAR, "vgg13", "vgg8"): 6.0,
    (CIFAR, "vgg13", "MobileNetV2"): 6.0,
    (CIFAR, "wrn_40_2", "wrn_16_2"): 6.0,
    (CIFAR, "wrn_40_2", "wrn_40_1"): 6.0,
    (IMAGENET, ANY, "MobileNetV1"): 2.0,
    (IMAGENET, ANY, "MobileNetV2"): 2.0,
}
"""Beta by teacher and student, where mdistiller's differs from 8, or on ImageNet from 0.5."""


@dataclass(frozen=True)
class DKD(Loss):
    """The loss `ce` · cross-entropy + warm-up · (`alpha` · TCKD + `beta` · NCKD) at `temperature`.

    `warmup` is the epoch, counted from 1, in which the distillation comes to its full weight; 1 is
    no warm-up. mdistiller's settings are the published ones.
    """

    name: ClassVar[str] = "dkd"
    needs_one_label: ClassVar[bool] = True
    published: ClassVar[Published | None] = Published(
        cifar={"ce": 1.0, "alpha": 1.0, "beta": 8.0, "temperature": 4.0, "warmup": 20},
        imagenet={"ce": 1.0, "alpha": 1.0, "beta": 0.5, "temperature": 1.0, "warmup": 1},
        pairs={pair: {"beta": beta} for pair, beta in BETA.items()},
    )

    ce: Weight
    alpha: Weight
    beta: Weight
    temperature: FinitePositive
    warmup: Count

    def terms(self, inputs: LossInputs) -> Terms:
        """Compute `loss`, `loss_ce`, and `loss_kd` of `loss_tckd` and `loss_nckd`."""
        [pair] = self.pairs(inputs)
        ce = cross_entropy_loss(pair[0], inputs.targets)
        student, teacher = map(self.distilled, pair)
        target = target_class_loss(student, teacher, inputs.targets, self.temperature)
        others = non_target_class_loss(student, teacher, inputs.targets, self.temperature)
        distilled = self.alpha * target + self.beta * others
        return {
            "loss": self.ce * ce + warmup_share(inputs.epoch, self.warmup) * distilled,
            "loss_ce": ce,
            "loss_kd": distilled,
            "loss_tckd": target,
            "loss_nckd": others,
        }

    def scaled(self, epochs: int, published_epochs: int) -> Self:
        """Return the loss with the same share of a shorter run as its warm-up."""
        warmup = share_of_run(self.warmup, epochs, published_epochs)
        return dataclasses.replace(self, warmup=warmup)


class StandardisedDKD(DKD):
    """DKD on standardised logits: alpha and beta nine times, temperature 2.

    That is what `--kd-weight 9 --base-temp 2` of arXiv 2403.01427's release means since May 2024;
    older code multiplied beta twice and left DKD's temperature at 4.
    """

    name = "dkd+ls"
    standardised = True
    published = Published(
        cifar={"ce": 1.0, "alpha": 9.0, "beta": 72.0, "temperature": 2.0, "warmup": 20},
        imagenet={"ce": 1.0, "alpha": 9.0, "beta": 4.5, "temperature": 2.0, "warmup": 1},
        pairs={pair: {"beta": 9 * beta} for pair, beta in BETA.items()},
    )


def warmup_share(epoch: int, warmup: int) -> float:
    """Return min(e / W, 1), e being the epoch counted from 1.

    Args:
        epoch: counted from 0.
        warmup: W.

    >>> warmup_share(0, 20), warmup_share(18, 20), warmup_share(19, 20), warmup_share(20, 20)
    (0.05, 0.95, 1.0, 1.0)
    """
    return min((epoch + 1) / warmup, 1.0)


def target_class_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    temperature: float | torch.Tensor,
) -> torch.Tensor:
    """Compute TCKD: T² times the batch mean of KL((p_y, 1 - p_y) of the teacher ‖ of the student).

    It differs from the release, which takes the log of a softmax and so reaches -∞ where a
    probability rounds to 0; here both are log-probabilities throughout.

    Args:
        student_logits: (B, C) floating; half precision is computed in float32.
        teacher_logits: (B, C) floating; no gradient flows into it.
        targets: (B,) int64.
        temperature: T, above 0.

    Returns:
        A scalar of the logits' dtype, at least float32; finite for all finite logits.
    """
    student = _target_or_not(student_logits, targets, temperature)
    teacher = _target_or_not(teacher_logits.detach(), targets, temperature)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def non_target_class_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    temperature: float | torch.Tensor,
) -> torch.Tensor:
    """Compute NCKD: T² times the batch mean of KL between softmax(z / T - 1000 · onehot(y)).

    As released: the paper leaves the target out altogether. That is the same within rounding until
    the target's softened logit lies some 900 above all others.

    Args and the return are those of `target_class_loss`.
    """
    student = _non_targets(student_logits, targets, temperature)
    teacher = _non_targets(teacher_logits.detach(), targets, temperature)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def _target_or_not(
    logits: torch.Tensor, targets: torch.Tensor, temperature: float | torch.Tensor
) -> torch.Tensor:
    """Return (B, 2) log-probabilities of the target and of all others together."""
    log_p = F.log_softmax(at_least_float32(logits) / temperature, dim=1)
    label = targets[:, None]
    # Not -∞: if there is no other class, 0 · (-∞ - -∞) would be NaN.
    others = log_p.scatter(1, label, torch.finfo(log_p.dtype).min)
    return torch.cat([log_p.gather(1, label), others.logsumexp(dim=1, keepdim=True)], dim=1)


def _non_targets(
    logits: torch.Tensor, targets: torch.Tensor, temperature: float | torch.Tensor
) -> torch.Tensor:
    """Return (B, C) log-probabilities in which the target has next to none."""
    softened = at_least_float32(logits) / temperature
    mask = torch.zeros_like(softened).scatter(1, targets[:, None], TARGET_MASK)
    return F.log_softmax(softened - mask, dim=1)
