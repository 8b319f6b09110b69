"""Errors whose message is written for the user: one line that names the thing and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LogitbankError(Exception):
    """A failure that the user can act on; a job prints its message and exits with 1."""


class UsageError(LogitbankError):
    """A request that makes no sense, such as an unknown name; a job exits with 2."""


class StoreError(LogitbankError):
    """A store that is missing, incomplete, damaged or of another identity."""


class NotAStoreError(StoreError):
    """A folder that does not hold a logitbank store."""


class DatasetError(LogitbankError):
    """A dataset that is missing, unreadable or inconsistent."""


class PixelError(LogitbankError):
    """Pixels other than those the teacher saw."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """Return the error for an unknown name, suggesting the closest valid one.

    >>> unknown_name("correction", "sorted", ["sort", "swap"]).args[0]
    "unknown correction 'sorted': did you mean 'sort'? (known: sort, swap)"
    """
    known = sorted(valid)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {kind} {name!r}{hint} (known: {', '.join(known)})")
