"""Errors whose message is written for the user: one line that names the thing and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LogitbankError(Exception):
    """A run that failed for a reason the user can act on; a job prints it and exits with 1."""


class UsageError(LogitbankError):
    """A request that can't be meant: an unknown name, a negative size; a job exits with 2."""


class StoreError(LogitbankError):
    """A store that is missing, incomplete, damaged or of another identity."""


class NotAStoreError(StoreError):
    """A folder that holds something else than a store of ours."""


class DatasetError(LogitbankError):
    """A dataset that is missing, unreadable or inconsistent."""


class PixelError(LogitbankError):
    """Pixels that are not those the teacher labelled."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """Build the error for an unknown name, with the nearest valid one suggested.

    >>> unknown_name("correction", "sorted", ["sort", "swap"]).args[0]
    "unknown correction 'sorted': did you mean 'sort'? (known: sort, swap)"
    """
    known = sorted(valid)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {kind} {name!r}{hint} (known: {', '.join(known)})")
