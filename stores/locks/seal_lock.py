"""Sealing by one process only, when several find at the same moment that a store is whole.

The lock is a hidden file beside the store. A holder that was suspended for so long that another
took over does no harm when it wakes up: sealing twice writes the same bytes.
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
    is_old,
    owner_lock,
    remove_free_locks,
    server_time,
    touched,
)

SECONDS_BETWEEN_TOUCHES = 5.0
SECONDS_BETWEEN_TRIES = 0.5


@contextmanager
def seal_lock(store: str | Path, *, stale_after: float = SECONDS_UNTIL_STALE) -> Iterator[None]:
    """Hold the lock for sealing a store, waiting for it first.

    Args:
        store: its path; the lock is a hidden file beside it.
        stale_after: seconds after which an untouched lock belongs to a dead process.

    Raises:
        StoreError: the folder that the store lies in can't be written.
    """
    with owner_lock(_stem(store), pace=_pace(stale_after), held_while_asleep=False):
        yield


def remove_stale_locks(store: str | Path, *, stale_after: float = SECONDS_UNTIL_STALE) -> None:
    """Remove the locks that killed processes have left beside a store.

    Args:
        store: its path.
        stale_after: seconds after which an untouched lock belongs to a dead process.

    Raises:
        StoreError: something other than a lock has the name of one.
    """
    remove_free_locks(_stem(store), pace=_pace(stale_after), held_while_asleep=False)


def wait_for_writers(
    store: str | Path,
    *,
    stale_after: float = SECONDS_UNTIL_STALE,
    waiting: Callable[[int], None] = lambda files: None,
) -> None:
    """Wait until no process is writing into a store.

    Every temporary file must be gone, or stale, so that its writer must have been killed.

    Args:
        store: its path.
        stale_after: seconds after which an untouched file belongs to a dead process.
        waiting: called once with the number of files, if there are any to wait for.

    Raises:
        StoreError: the folder that the store lies in can't be written.
    """
    path, was_called = Path(os.path.realpath(store)), False
    while True:
        found = [entry.key for entry in entries_of(path) if entry.kind == FILE]
        times = [touched(path / key) for key in found if key.endswith(PARTIAL)]
        now = server_time(path) if times else 0.0
        fresh = sum(time is not None and not is_old(time, now, stale_after) for time in times)
        if not fresh:
            return
        if not was_called:
            waiting(fresh)
            was_called = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def _stem(store: str | Path) -> Path:
    """Return the path of a store's locks without the number, the same however it is reached."""
    path = Path(os.path.realpath(store))
    return path.with_name(f".{path.name}.sealing")


def _pace(stale_after: float) -> Pace:
    return Pace(SECONDS_BETWEEN_TOUCHES, stale_after, SECONDS_BETWEEN_TRIES)
