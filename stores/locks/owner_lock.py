"""The right to something that one process has at a time, and that a dead one never keeps.

The lock is a file, made by the one who gets it: creating a file that must not exist is atomic on
local and on network file systems, where `flock` often is not. Its owner touches it every few
seconds. One whose process is gone is free at once, where that can be told; elsewhere one that has
not been touched for a minute is, by the clock of the file server. The next owner makes the next
generation of the file and removes the older ones, so that one that was merely asleep finds its own
gone when it wakes.
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

PROBE = ".now"
"""How the name of a file ends that is made to read the file server's clock."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Pace:
    """Seconds between an owner's touches, until an untouched lock is free, and between tries."""

    touches: float = 5.0
    stale: float = 60.0
    tries: float = 0.5


@dataclass(frozen=True)
class Held:
    """Another's lock; its owner is None while that can't be read.

    `is_alive` says that its process runs or has touched the lock since it was first looked at;
    else one that died a moment ago looks the same.
    """

    owner: Owner | None
    is_alive: bool


class OwnerLock:
    """A lock that is held."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self._owner = path, owner

    def is_held(self) -> bool:
        """Say whether it still is: not removed, and not another's after a long sleep."""
        return _owner(self.path) == self._owner

    def next_owner(self) -> Owner | None:
        """Return who holds the lock that this one was, None where nobody does."""
        newest = max(_generations(self.path.with_suffix("")), default=None)
        return None if newest is None else _owner(self.path.with_suffix(f".{newest}"))

    def touch(self) -> None:
        """Show that the owner is alive."""
        # What goes wrong once, on a busy file server, may go well the next time.
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def release(self) -> None:
        """Hand it back, if it is still held."""
        with contextlib.suppress(OSError):
            if self.is_held():
                self.path.unlink(missing_ok=True)


@contextmanager
def owner_lock(
    stem: Path,
    *,
    pace: Pace = Pace(),
    sleepers_keep_it: bool = True,
    busy: Callable[[Held], None] = lambda held: None,
) -> Iterator[OwnerLock]:
    """Wait for a lock, and keep it for the time of a `with` block.

    Args:
        stem: the path of its file, without the generation.
        pace: of touches and tries.
        sleepers_keep_it: whether a process that is there, but does not touch the lock, keeps it.
        busy: called before each further try; what it raises ends the waiting.

    Raises:
        StoreError: the folder that the lock lies in can't be written.
    """
    lock = _acquired(stem, pace, sleepers_keep_it, busy)
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
    """Return the time when a file was last written or touched, None where it is gone.

    Raises:
        StoreError: it is not a file, so no process wrote it.
    """
    try:
        kind = kind_of(os.lstat(path))
        if kind != FILE:
            raise StoreError(f"{path} is {kind}, where a file of ours would be: move it away")
        # Opening a file asks a file server for its time; `stat` may be answered from a cache.
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except PermissionError:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def file_time(beside: Path) -> float:
    """Return the time now by the clock of the file server: that of a file made for it."""
    probe = beside.with_name(f".{beside.name}.{uuid.uuid4().hex}{PROBE}")
    try:
        with open(probe, "wb") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError as error:
        raise write_error(probe, error) from error
    finally:
        probe.unlink(missing_ok=True)


def is_old(touched: float, now: float, stale_after: float) -> bool:
    """Say whether a time is so long ago that who keeps touching a file must be dead.

    Nobody alive touches a file in the future: what bears such a time was moved here with it.
    """
    return abs(now - touched) > stale_after


def remove_free_locks(stem: Path, *, pace: Pace = Pace(), sleepers_keep_it: bool = True) -> None:
    """Remove the files of a lock that dead processes have left; arguments as of `owner_lock`.

    Raises:
        StoreError: something else than a lock bears the name of one.
    """
    for generation in _generations(stem):
        file = _file(stem, generation)
        if _is_free(file, pace.stale, sleepers_keep_it):
            file.unlink(missing_ok=True)


def _acquired(
    stem: Path, pace: Pace, sleepers_keep_it: bool, busy: Callable[[Held], None]
) -> OwnerLock:
    """Create the next generation of a lock once the last one is gone or free."""
    first_seen: dict[int, float] = {}
    while True:
        newest = max(_generations(stem), default=None)
        if newest is None or _is_free(_file(stem, newest), pace.stale, sleepers_keep_it):
            lock = _created(_file(stem, 0 if newest is None else newest + 1))
            if lock is not None and _is_sole(lock, stem, pace.stale, sleepers_keep_it):
                return lock
            time.sleep(random.uniform(0, pace.tries))
        else:
            file = _file(stem, newest)
            owner, last = _owner(file), touched(file)
            if last is not None:
                was_touched = last != first_seen.setdefault(newest, last)
                busy(Held(owner, was_touched or bool(owner and owner.is_running())))
            time.sleep(pace.tries)


def _is_sole(lock: OwnerLock, stem: Path, stale_after: float, sleepers_keep_it: bool) -> bool:
    """Look again once a lock is made, since the look before it may be old: clear it, or give way.

    Of two who made one at the same moment, from different looks, at least one gives way.
    """
    mine = int(lock.path.suffix[1:])
    others = [generation for generation in _generations(stem) if generation != mine]
    for generation in others:
        file = _file(stem, generation)
        if generation > mine or not _is_free(file, stale_after, sleepers_keep_it):
            lock.release()
            return False
    for generation in others:
        _file(stem, generation).unlink(missing_ok=True)
    return True


def _created(path: Path) -> OwnerLock | None:
    """Make a lock's file, None where another process was first."""
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


def _is_free(path: Path, stale_after: float, sleepers_keep_it: bool) -> bool:
    last = touched(path)
    owner = _owner(path)
    is_running = None if owner is None else owner.is_running()
    if is_running is False:
        return True
    if is_running and sleepers_keep_it:
        return False
    return last is not None and is_old(last, file_time(path), stale_after)


def _owner(path: Path) -> Owner | None:
    try:
        with open(path, "rb") as file:
            return Owner.from_text(file.read(65_536).decode(errors="replace"))
    except (FileNotFoundError, PermissionError):
        return None
    except OSError as error:
        if error.errno != errno.ESTALE:  # what a file server says of a file that is gone
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
