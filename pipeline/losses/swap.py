"""SLD's swap as a differentiable function of logits.

Stores are corrected by `stores.corrections`, on their codes and with the teacher's true order; this
is for logits that are not stored: the student's own, and those of a teacher in the loop.
"""

from __future__ import annotations

import torch


def swap_logits(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Exchange each row's largest logit with its label's, where they differ.

    SLD, arXiv 2504.20108. A label that ties for the maximum is right and its row stays, gradient
    included; the release leaves such a row's values, but may exchange their gradients. Of several
    largest ones the first is taken.

    Args:
        logits: (B, C) floating.
        targets: (B,) int64.

    Returns:
        (B, C) of the same dtype; the gradient of each value flows to the class that it came from.
    """
    label = targets[:, None]
    best, largest = logits.max(dim=1, keepdim=True)
    largest = torch.where(logits.gather(1, label) == best, label, largest)
    classes = torch.arange(logits.shape[1], device=logits.device)
    source = classes.expand(logits.shape).scatter(1, label, largest).scatter(1, largest, label)
    return logits.gather(1, source)
