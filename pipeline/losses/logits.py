"""Logits as losses take them."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ViewLogits:
    """A network's (B, C) logits of the weak view of each image and, where asked for, the strong."""

    weak: torch.Tensor
    strong: torch.Tensor | None = None


def at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    """Widen half-precision logits, whose softmax loses the small probabilities."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
