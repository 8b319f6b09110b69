"""Sealing by one process alone, where several find at the same moment that a store is whole.

The lock is a file beside the store, made by the one who gets it: creating a file that must not
exist is atomic on local and on network file systems, where `flock` often is not. Its holder touches
it every few seconds; one that has not been touched for a minute belongs to a process that was
killed, and the next generation of the lock may be taken. A holder that was merely asleep for that
long does no harm when it wakes: sealing twice writes the same bytes.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from logitbank.stores.errors import StoreError
from logitbank.stores.files import PARTIAL, LocalFiles, write_error
from logitbank.stores.folders import FILE, kind_of

SECONDS_BETWEEN_TOUCHES = 5.0
SECONDS_UNTIL_STALE = 60.0
SECONDS_BETWEEN_TRIES = 0.5

PROBE = ".now"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


@contextmanager
def seal_lock(store: str | Path, *, stale_after: float = SECONDS_UNTIL_STALE) -> Iterator[None]:
    """Wait for the right to seal a store, and keep it for the time of a `with` block.

    Args:
        store: its path; the lock is a hidden file beside it.
        stale_after: seconds after which an untouched lock belongs to a dead process.

    Raises:
        StoreError: the folder that the store lies in can't be written.
    """
    lock = _acquired(_stem(store), stale_after)
    done = threading.Event()
    beat = threading.Thread(target=_touch, args=(lock, done), name="seal-lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        done.set()
        beat.join()
        # Older generations, of processes that were killed, go first: while any is there, it waits.
        for generation in sorted(_generations(lock.with_suffix(""))):
            if generation <= int(lock.suffix[1:]):
                lock.with_suffix(f".{generation}").unlink(missing_ok=True)


def remove_stale_locks(store: str | Path, *, stale_after: float = SECONDS_UNTIL_STALE) -> None:
    """Remove the locks that killed processes have left beside a store.

    Args:
        store: its path.
        stale_after: seconds after which an untouched lock belongs to a dead process.

    Raises:
        StoreError: something else than a lock bears the name of one.
    """
    stem = _stem(store)
    for generation in sorted(_generations(stem)):
        lock = stem.with_name(f"{stem.name}.{generation}")
        if _is_stale(lock, stale_after):
            lock.unlink(missing_ok=True)


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
    files = LocalFiles(path)
    while True:
        keys = [key for key in files.list_keys() if key.endswith(PARTIAL)]
        touched = [_touched(files.path(key)) for key in keys]
        now = _file_time(path) if touched else 0.0
        fresh = sum(time is not None and not _is_old(time, now, stale_after) for time in touched)
        if not fresh:
            return
        if not told:
            waiting(fresh)
            told = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def _acquired(stem: Path, stale_after: float) -> Path:
    """Create the next generation of a lock once the last one is gone or stale."""
    while True:
        newest = max(_generations(stem), default=None)
        if newest is None or _is_stale(stem.with_name(f"{stem.name}.{newest}"), stale_after):
            lock = stem.with_name(f"{stem.name}.{0 if newest is None else newest + 1}")
            if _created(lock):
                return lock
        time.sleep(SECONDS_BETWEEN_TRIES)


def _created(lock: Path) -> bool:
    try:
        with open(lock, "x") as file:
            file.write(f"{platform.node()} {os.getpid()}\n")
    except FileExistsError:
        return False
    except OSError as error:
        raise write_error(lock, error) from error
    return True


def _stem(store: str | Path) -> Path:
    """Give the path of a store's locks, less their number: one, however the store is reached."""
    path = Path(os.path.realpath(store))
    return path.with_name(f".{path.name}.sealing")


def _generations(stem: Path) -> list[int]:
    prefix = f"{stem.name}."
    endings = [
        name.removeprefix(prefix) for name in os.listdir(stem.parent) if name.startswith(prefix)
    ]
    return [int(ending) for ending in endings if _NUMBER.fullmatch(ending)]


def _is_stale(lock: Path, stale_after: float) -> bool:
    touched = _touched(lock)
    return touched is not None and _is_old(touched, _file_time(lock), stale_after)


def _is_old(touched: float, now: float, stale_after: float) -> bool:
    # Nobody alive touches a file in the future: what bears such a time was moved here with it.
    return abs(now - touched) > stale_after


def _touched(path: Path) -> float | None:
    """Give the time when a file was last written or touched, None where it is gone.

    Raises:
        StoreError: it is no file, so no process wrote it.
    """
    try:
        kind = kind_of(os.lstat(path))
        if kind != FILE:
            raise StoreError(f"{path} is {kind}, where a file of ours would be: move it away")
        # Opening a file asks a file server for its time; `stat` may be answered from a cache.
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None


def _file_time(beside: Path) -> float:
    """Give the time now by the clock of the file server: that of a file made for it."""
    probe = beside.with_name(f".{beside.name}.{uuid.uuid4().hex}{PROBE}")
    try:
        with open(probe, "wb") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError as error:
        raise write_error(probe, error) from error
    finally:
        probe.unlink(missing_ok=True)


def _touch(lock: Path, done: threading.Event) -> None:
    while not done.wait(SECONDS_BETWEEN_TOUCHES):
        # What goes wrong once, on a busy file server, may go well the next time.
        with contextlib.suppress(OSError):
            os.utime(lock)
