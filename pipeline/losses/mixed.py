"""Targets of images that are mixed from two, as by MixUp and CutMix."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def mixed_targets(
    targets: torch.Tensor, partners: torch.Tensor, shares: torch.Tensor, classes: int
) -> torch.Tensor:
    """Return the class weights of images that are mixed from two.

    The cross-entropy is linear in them, so that it is λ times that of the own label plus 1 - λ
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
    """Return whether targets are the class weights of mixed images, not class numbers."""
    return targets.is_floating_point()
