"""Describing a folder that does not hold the expected store, in a few words for the user."""

from __future__ import annotations

from logitbank.stores.files import FileError, Files
from logitbank.stores.files.printable import printable

NAMES = 3
_RUN = ("config.yaml", "metrics.jsonl")


def describe_contents(files: Files) -> str | None:
    """Describe what a location holds: nothing, a store, a run, or the first few names.

    Returns:
        None if it can't be listed.
    """
    try:
        names = files.names()
    except FileError as error:
        return f"what {error.cause}"
    if names is None:
        return None
    if not names:
        return "nothing"
    if "zarr.json" in names:
        return "a store, or another Zarr group"
    if any(name in names for name in _RUN):
        return f"a run ({', '.join(name for name in names if name in _RUN)})"
    shown = ", ".join(printable(name) for name in names[:NAMES])
    more = len(names) - NAMES
    return f"{shown} and {more} more" if more > 0 else shown
