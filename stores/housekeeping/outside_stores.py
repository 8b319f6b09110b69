"""Keeping other things out of stores: what is no part of one is not written into it."""

from __future__ import annotations

import os
from pathlib import Path

from logitbank.stores.documents import ROOT_KEY
from logitbank.stores.errors import UsageError


def require_outside_stores(path: Path, *, itself: bool = True) -> None:
    """Check that a path is not a store, complete or not, and does not lie in one.

    Args:
        path: it need not exist.
        itself: whether it may not be a store either; one may be gone on with.

    Raises:
        UsageError: it is or does.
        OSError: it can't be looked at.
    """
    # Links are followed: what is written behind one lies where it leads.
    real = Path(os.path.realpath(path))
    for place in (real, *real.parents) if itself else real.parents:
        if (place / ROOT_KEY).exists():
            where = "is a store" if place == real else f"lies in the store {place}"
            raise UsageError(
                f"{path} {where}, which holds its arrays and nothing else: name another --out"
            )
