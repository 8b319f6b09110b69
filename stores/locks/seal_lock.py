"""Sealing by one process alone, where several find at the same moment that a store is whole.

The lock is a hidden file beside the store. A holder that was merely asleep for so long that another
one took over does no harm when it wakes: sealing twice writes the same bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from logitbank.stores.files.folders import FILE, entries_of
from logitbank.stores.files.interface import PARTIAL, SECONDS_UNTIL_STALE
from logitbank.stores.locks.owner_lock import (
    Pace,
    file_time,
    is_old,
    owner_lock,
    remove_free_locks,
    touched,
)

SECONDS_BETWEEN_TOUCHES = 5.0
SECONDS_BETWEEN_TRIES = 0.5


@contextmanager
def seal_lock(store: str | Path, *, stale_after: float = SECONDS_UNTIL_STALE) -> Iterator[None]:
    """Wait for the right to seal a store, and keep it for the time of a `with` block.

    Args:
        store: its path; the lock is a hidden file beside it.
        stale_after: seconds after which an untouched lock belongs to a dead process.

    Raises:
        StoreError: the folder that the store lies in can't be written.
    """
    with owner_lock(_stem(store), pace=_pace(stale_after), sleepers_keep_it=False):
        yield


def remove_stale_locks(store: str | Path, *, stale_after: float = SECONDS_UNTIL_STALE) -> None:
    """Remove the locks that killed processes have left beside a store.

    Args:
        store: its path.
        stale_after: seconds after which an untouched lock belongs to a dead process.

    Raises:
        StoreError: something else than a lock bears the name of one.
    """
    remove_free_locks(_stem(store), pace=_pace(stale_after), sleepers_keep_it=False)


def wait_for_writers(
    store: str | Path,
    *,
    stale_after: float = SECONDS_UNTIL_STALE,
    waiting: Callable[[int], None] = lambda files: None,
) -> None:
    """Wait until no process is writing into a store.

    Each temporary file must be gone, or untouched for so long that its writer was killed.

    Args:
        store: its path.
        stale_after: seconds after which an untouched file belongs to a dead process.
        waiting: called once, with the number of files, where there is something to wait for.

    Raises:
        StoreError: the folder that the store lies in can't be written.
    """
    path, told = Path(os.path.realpath(store)), False
    while True:
        found = [entry.key for entry in entries_of(path) if entry.kind == FILE]
        times = [touched(path / key) for key in found if key.endswith(PARTIAL)]
        now = file_time(path) if times else 0.0
        fresh = sum(time is not None and not is_old(time, now, stale_after) for time in times)
        if not fresh:
            return
        if not told:
            waiting(fresh)
            told = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def _stem(store: str | Path) -> Path:
    """Return the path of a store's locks, less their number: one, however the store is reached."""
    path = Path(os.path.realpath(store))
    return path.with_name(f".{path.name}.sealing")


def _pace(stale_after: float) -> Pace:
    return Pace(SECONDS_BETWEEN_TOUCHES, stale_after, SECONDS_BETWEEN_TRIES)
