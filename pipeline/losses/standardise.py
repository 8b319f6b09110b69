"""Logit standardisation (LSKD): what is learned is the shape of a row, not its scale.

Sun et al., "Logit Standardization in Knowledge Distillation", arXiv 2403.01427.
"""

from __future__ import annotations

import torch

from logitbank.pipeline.losses.logits import at_least_float32

EPSILON = 1e-7
"""Added to the standard deviation, as released for KD, DKD and MLKD."""


def standardise(logits: torch.Tensor) -> torch.Tensor:
    """Map each row z to (z - mean) / (1e-7 + std), std being the unbiased one.

    As released for KD, DKD and MLKD. The released copy of CTKD leaves the 1e-7 out, and so divides
    by 0 where logits are equal: here all have it.

    Args:
        logits: (B, C) floating; half precision is computed in float32.

    Returns:
        (B, C) of the logits' dtype, at least float32. A row whose logits are all equal becomes 0,
        without a gradient, which in the release is 1e7 times the incoming one; so does one class,
        of which the release's standard deviation is NaN.
    """
    wide = at_least_float32(logits)
    centred = wide - wide.mean(dim=-1, keepdim=True)
    if wide.shape[-1] == 1:
        return centred
    # Of equal logits the mean may be off by a rounding, which the division would blow up.
    spread = wide.amax(dim=-1, keepdim=True) - wide.amin(dim=-1, keepdim=True)
    centred = centred.masked_fill(spread == 0, 0)
    return centred / (EPSILON + wide.std(dim=-1, keepdim=True))
