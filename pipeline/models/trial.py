"""A trial of a network on one image: it must return one row of logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from logitbank.stores.errors import LogitbankError

_PRECISE = (torch.float32, torch.float64)


def require_logits(module: nn.Module, spec: str, side: int, classes: int) -> None:
    """Check that a network returns one row of logits for one black image.

    Args:
        module: maps float32 images (B, 3, side, side) to logits (B, classes).
        spec: the network's, for the message.
        side: of the image in pixels.
        classes: the number of classes expected.

    Raises:
        LogitbankError: the network can't take such an image, or returns anything else, which
            includes a row of bfloat16 or float16: a store must not depend on its rounding.
    """
    try:
        with torch.inference_mode(), evaluation_mode(module):
            logits = module(torch.zeros(1, 3, side, side))
    except Exception as error:  # a user's network may raise anything
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise LogitbankError(
            f"{spec} can't take images of {side} × {side}: {_other_weights(module) or why}"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise LogitbankError(f"{spec} returns {shape} for an image, not one row of logits")
    if logits.dtype not in _PRECISE:
        raise LogitbankError(
            f"{spec} returns logits of {_name(logits.dtype)}, expected float32: "
            f"{_other_weights(module) or 'return the network in float32, module.float()'}"
        )
    if logits.shape[1] != classes:
        raise LogitbankError(f"{spec} has {logits.shape[1]} classes, expected {classes}")


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each part back into its own mode afterwards."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _other_weights(module: nn.Module) -> str | None:
    """Return which weights don't suit float32 images on the CPU, and what to do."""
    for name, each in module.named_parameters():
        if each.device.type != "cpu":
            return (
                f"its weights are on {each.device} ({name}): return it on the CPU, the job moves it"
            )
        if each.is_floating_point() and each.dtype != torch.float32:
            return (
                f"its weights are {_name(each.dtype)} ({name}), its images float32: return it in "
                "float32, module.float(), and choose --amp for speed"
            )
    return None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
