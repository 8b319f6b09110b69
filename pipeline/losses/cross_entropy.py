"""Cross-entropy with the ground truth: what a student learns without a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from logitbank.pipeline.bounds import Weight
from logitbank.pipeline.losses.logits import at_least_float32
from logitbank.pipeline.losses.loss import Loss, LossInputs, Terms
from logitbank.pipeline.losses.mixed import are_mixed


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """The loss `ce` · cross-entropy."""

    name: ClassVar[str] = "ce"
    needs_teacher: ClassVar[bool] = False

    ce: Weight = 1.0

    def terms(self, inputs: LossInputs) -> Terms:
        """Compute `loss` and `loss_ce`."""
        ce = cross_entropy_loss(inputs.student.weak, inputs.targets)
        return {"loss": self.ce * ce, "loss_ce": ce}


def cross_entropy_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the batch mean of -Σ_c w_c log softmax(logits)_c, w being 1 at the label.

    Args:
        logits: (B, C) floating; half precision is computed in float32.
        targets: (B,) int64 class numbers; or (B, C) floating, the weights of the classes in each
            image, which sum to 1, as `mixed_targets` returns them for MixUp and CutMix.

    Returns:
        A scalar of the logits' dtype, at least float32.
    """
    wide = at_least_float32(logits)
    return F.cross_entropy(wide, targets.to(wide.dtype) if are_mixed(targets) else targets)
