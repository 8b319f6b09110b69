"""Keeping other things out of stores: what is no part of one is not written into it."""

from __future__ import annotations

import os
from pathlib import Path

from logitbank.stores.documents import ROOT_KEY
from logitbank.stores.errors import UsageError


def require_outside_stores(path: Path) -> None:
    """Require a path that is no store, complete or not, and lies in none.

    Raises:
        UsageError: it is or does.
        OSError: it can't be looked at.
    """
    # Links are followed: what is written behind one lies where it leads.
    real = Path(os.path.realpath(path))
    for place in (real, *real.parents):
        if (place / ROOT_KEY).exists():
            where = "is a store" if place == real else f"lies in the store {place}"
            raise UsageError(
                f"{path} {where}, which holds its arrays and nothing else: name another --out"
            )
