"""Checks that the settings of every loss share."""

from __future__ import annotations

import math
from collections.abc import Iterable

from logitbank.stores.errors import UsageError


def require_weights(settings: object, names: Iterable[str]) -> None:
    """Require numbers that are finite and 0 or more; UsageError otherwise."""
    for name in names:
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{name} must be finite and 0 or more, not {value}")


def require_positive(settings: object, names: Iterable[str]) -> None:
    """Require numbers that are finite and above 0; UsageError otherwise."""
    for name in names:
        value = getattr(settings, name)
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} must be finite and above 0, not {value}")
