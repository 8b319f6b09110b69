"""The loss of a batch: what a configuration asks of the losses."""

from __future__ import annotations

import torch

from logitbank.pipeline.losses import KDWeights, cross_entropy_loss, kd_loss

Terms = dict[str, torch.Tensor]


def batch_loss(
    weights: KDWeights,
    logits: torch.Tensor,
    targets: torch.Tensor,
    teacher_logits: torch.Tensor | None,
) -> Terms:
    """Compute a batch's loss and the terms it is made of.

    Args:
        weights: of the terms, and the temperature.
        logits: (B, C) the student's.
        targets: (B,) int64.
        teacher_logits: (B, C) float32; None where labels alone are learned from.

    Returns:
        Scalars by name: `loss`, the weighted sum to descend on; `loss_ce` and, with a teacher,
        `loss_kd`.
    """
    ce = cross_entropy_loss(logits, targets)
    if teacher_logits is None:
        return {"loss": weights.ce * ce, "loss_ce": ce}
    kd = kd_loss(logits, teacher_logits, weights.temperature)
    return {"loss": weights.ce * ce + weights.kd * kd, "loss_ce": ce, "loss_kd": kd}
