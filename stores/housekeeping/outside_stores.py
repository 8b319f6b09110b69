"""Keeping other files out of stores."""

from __future__ import annotations

import os
from pathlib import Path

from logitbank.stores.documents import ROOT_KEY
from logitbank.stores.errors import UsageError


def require_outside_stores(path: Path, *, itself: bool = True) -> None:
    """Check that a path is not a store, complete or not, and does not lie in one.

    Args:
        path: it need not exist.
        itself: whether the path itself is checked too; not where a store is to be resumed.

    Raises:
        UsageError: it is a store, or lies in one.
        OSError: it can't be accessed.
    """
    # Links are followed: what is written through one ends up at its target.
    real = Path(os.path.realpath(path))
    for place in (real, *real.parents) if itself else real.parents:
        if (place / ROOT_KEY).exists():
            where = "is a store" if place == real else f"lies in the store {place}"
            raise UsageError(
                f"{path} {where}, which holds its arrays and nothing else: name another --out"
            )
