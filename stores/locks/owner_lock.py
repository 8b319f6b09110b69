"""A lock between processes, which a dead process never keeps.

The lock is a file that its owner creates: creating a file that must not exist is atomic on local
and network file systems, where `flock` often is not. The owner touches it every few seconds. If its
process is known to be gone, the lock is free at once; if that can't be known, it is free once it
has not been touched for a minute, by the file server's clock. The next owner creates the next
generation of the file and removes older ones, so that an owner that was only suspended finds its
own gone when it wakes up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from logitbank.stores.errors import StoreError
from logitbank.stores.files.disk_errors import write_error
from logitbank.stores.files.folders import FILE, kind_of
from logitbank.stores.locks.owner import Owner

CLOCK = ".now"
"""The suffix of files that are created to read the file server's clock."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Pace:
    """Seconds between an owner's touches, until an untouched lock is stale, and between tries."""

    touches: float = 5.0
    stale: float = 60.0
    tries: float = 0.5


@dataclass(frozen=True)
class Held:
    """A lock that another process holds; `owner` is None if it can't be read.

    `is_alive` is true if the process is known to be running, or has touched the lock since it was
    first seen. If false, the process may have died a moment ago.
    """

    owner: Owner | None
    is_alive: bool


class OwnerLock:
    """A lock held by this process."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self._owner = path, owner

    def is_held(self) -> bool:
        """Return whether it is still held: not removed, and not taken over while asleep."""
        return _owner(self.path) == self._owner

    def next_owner(self) -> Owner | None:
        """Return the owner that has taken over this lock, None if nobody has."""
        newest = max(_generations(self.path.with_suffix("")), default=None)
        return None if newest is None else _owner(self.path.with_suffix(f".{newest}"))

    def touch(self) -> None:
        """Show that the owner is alive."""
        # A failure, as on a busy file server, is made up for by the next touch.
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def release(self) -> None:
        """Release the lock, if it is still held."""
        with contextlib.suppress(OSError):
            if self.is_held():
                self.path.unlink(missing_ok=True)


@contextmanager
def owner_lock(
    stem: Path,
    *,
    pace: Pace = Pace(),
    held_while_asleep: bool = True,
    busy: Callable[[Held], None] = lambda held: None,
) -> Iterator[OwnerLock]:
    """Wait for a lock, and yield it while it is held.

    Args:
        stem: the path of the lock's file, without the generation.
        pace: the times between touches and tries.
        held_while_asleep: whether a running process that does not touch the lock keeps it.
        busy: called before each further try; an exception from it ends the waiting.

    Raises:
        StoreError: the folder of the lock can't be written.
    """
    lock = _acquired(stem, pace, held_while_asleep, busy)
    done = threading.Event()

    def beat() -> None:
        while not done.wait(pace.touches):
            lock.touch()

    thread = threading.Thread(target=beat, name=f"lock {stem.name}", daemon=True)
    try:
        thread.start()
        yield lock
    finally:
        done.set()
        if thread.is_alive():
            thread.join()
        lock.release()


def touched(path: Path) -> float | None:
    """Return when a file was last written or touched, None if it is gone.

    Raises:
        StoreError: it is not a file, so it is not a lock.
    """
    try:
        kind = kind_of(os.lstat(path))
        if kind != FILE:
            raise StoreError(f"{path} is {kind}, where a lock's file belongs: move it away")
        # Opening a file makes a file server report its time; `stat` may come from a cache.
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except PermissionError:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def server_time(near: Path) -> float:
    """Return the current time by the file server's clock, from a file created for it."""
    clock = near.with_name(f".{near.name}.{uuid.uuid4().hex}{CLOCK}")
    try:
        with open(clock, "wb") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError as error:
        raise write_error(clock, error) from error
    finally:
        clock.unlink(missing_ok=True)


def is_old(touched: float, now: float, stale_after: float) -> bool:
    """Return whether a file was last touched so long ago that its owner must be dead.

    A time in the future counts as old too: no running process sets one, so it was copied here.
    """
    return abs(now - touched) > stale_after


def remove_free_locks(stem: Path, *, pace: Pace = Pace(), held_while_asleep: bool = True) -> None:
    """Remove a lock's files that dead processes have left; arguments as for `owner_lock`.

    Raises:
        StoreError: something other than a lock has the name of one.
    """
    for generation in _generations(stem):
        file = _file(stem, generation)
        if _is_free(file, pace.stale, held_while_asleep):
            file.unlink(missing_ok=True)


def _acquired(
    stem: Path, pace: Pace, held_while_asleep: bool, busy: Callable[[Held], None]
) -> OwnerLock:
    """Create the next generation of a lock, once the last one is gone or free."""
    first_seen: dict[int, float] = {}
    while True:
        newest = max(_generations(stem), default=None)
        if newest is None or _is_free(_file(stem, newest), pace.stale, held_while_asleep):
            lock = _created(_file(stem, 0 if newest is None else newest + 1))
            if lock is not None and _is_sole(lock, stem, pace.stale, held_while_asleep):
                return lock
            time.sleep(random.uniform(0, pace.tries))
        else:
            file = _file(stem, newest)
            owner, last = _owner(file), touched(file)
            if last is not None:
                was_touched = last != first_seen.setdefault(newest, last)
                busy(Held(owner, was_touched or bool(owner and owner.is_running())))
            time.sleep(pace.tries)


def _is_sole(lock: OwnerLock, stem: Path, stale_after: float, held_while_asleep: bool) -> bool:
    """Check again after creating a lock, since the earlier check may be out of date.

    Older generations that are free are removed; otherwise the lock is released and False returned.
    Of two processes that created one at the same moment, at least one gives way.
    """
    mine = int(lock.path.suffix[1:])
    others = [generation for generation in _generations(stem) if generation != mine]
    for generation in others:
        file = _file(stem, generation)
        if generation > mine or not _is_free(file, stale_after, held_while_asleep):
            lock.release()
            return False
    for generation in others:
        _file(stem, generation).unlink(missing_ok=True)
    return True


def _created(path: Path) -> OwnerLock | None:
    """Create a lock's file, None if another process was first."""
    owner, is_made = Owner.this_process(), False
    try:
        with open(path, "x") as file:
            is_made = True
            file.write(owner.to_text())
    except FileExistsError:
        return None
    except OSError as error:
        if is_made:
            path.unlink(missing_ok=True)
        raise write_error(path, error) from error
    return OwnerLock(path, owner)


def _is_free(path: Path, stale_after: float, held_while_asleep: bool) -> bool:
    last = touched(path)
    owner = _owner(path)
    is_running = None if owner is None else owner.is_running()
    if is_running is False:
        return True
    if is_running and held_while_asleep:
        return False
    return last is not None and is_old(last, server_time(path), stale_after)


def _owner(path: Path) -> Owner | None:
    try:
        with open(path, "rb") as file:
            return Owner.from_text(file.read(65_536).decode(errors="replace"))
    except (FileNotFoundError, PermissionError):
        return None
    except OSError as error:
        if error.errno != errno.ESTALE:  # from a file server, of a file that is gone
            raise
        return None


def _file(stem: Path, generation: int) -> Path:
    return stem.with_name(f"{stem.name}.{generation}")


def _generations(stem: Path) -> list[int]:
    prefix = f"{stem.name}."
    try:
        names = os.listdir(stem.parent)
    except OSError as error:
        raise write_error(stem, error) from error
    endings = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    return [int(ending) for ending in endings if _NUMBER.fullmatch(ending)]
