"""Cross-entropy with the ground truth: what a student learns without a teacher."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from logitbank.pipeline.losses.settings import require_weights


@dataclass(frozen=True)
class CEWeights:
    """The loss `ce` · cross-entropy."""

    ce: float = 1.0

    def __post_init__(self) -> None:
        require_weights(self, ("ce",))


def cross_entropy_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the batch mean of -Σ_c w_c log softmax(logits)_c, w being 1 at the label.

    Args:
        logits: (B, C) floating; half precision is computed in float32.
        targets: (B,) int64 class numbers; or (B, C) floating, the weights of the classes in each
            image, which sum to 1, as `mixed_targets` gives them for MixUp and CutMix.

    Returns:
        A scalar of the logits' dtype, at least float32.
    """
    wide = at_least_float32(logits)
    return F.cross_entropy(wide, targets.to(wide.dtype) if are_mixed(targets) else targets)


def mixed_targets(
    targets: torch.Tensor, partners: torch.Tensor, shares: torch.Tensor, classes: int
) -> torch.Tensor:
    """Give the class weights of images that are mixed of two, as MixUp and CutMix make them.

    The cross-entropy is linear in them, so that it is λ times the one of the own label plus 1 - λ
    times the partner's (Zhang et al., arXiv 1710.09412, section 2; Yun et al., arXiv 1905.04899,
    section 3.1).

    Args:
        targets: (B,) int64, each image's own label.
        partners: (B,) int64, the label of the image mixed into it.
        shares: (B,) floating, λ, the own image's share, from 0 to 1.
        classes: how many there are, C.

    Returns:
        (B, C) float32, rows that sum to 1.
    """
    own = F.one_hot(targets, classes).to(torch.float32)
    other = F.one_hot(partners, classes).to(torch.float32)
    share = shares.to(torch.float32)[:, None]
    return share * own + (1 - share) * other


def are_mixed(targets: torch.Tensor) -> bool:
    """Tell the class weights of mixed images from class numbers."""
    return targets.is_floating_point()


def at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    """Widen half-precision logits, in which a softmax loses what distillation is about."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
