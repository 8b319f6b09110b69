"""Cross-entropy with the ground truth: what a student learns without a teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cross_entropy_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the batch mean of -log softmax(logits)[target].

    Args:
        logits: (B, C) floating; half precision is computed in float32.
        targets: (B,) int64 class numbers.

    Returns:
        A scalar of the logits' dtype, at least float32.
    """
    return F.cross_entropy(at_least_float32(logits), targets)


def at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    """Widen half-precision logits, in which a softmax loses what distillation is about."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
