"""The process that owns a lock, and whether it is still running."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

_DEAD_STATES = "ZX"


@dataclass(frozen=True)
class Owner:
    """A process as recorded in a lock; the token distinguishes two locks of the same process.

    `machine` identifies the running system and its process namespace, which a container has of its
    own even under another's host name; None if the system offers nothing of the kind. `began` is
    when the process started, by that system's clock, since process numbers are reused; None without
    `/proc`.
    """

    host: str
    process: int
    since: float
    token: str
    machine: str | None = None
    began: int | None = None

    @classmethod
    def this_process(cls) -> Owner:
        """Return the calling process as an owner."""
        number = os.getpid()
        return cls(
            host=platform.node(),
            process=number,
            since=time.time(),
            token=uuid.uuid4().hex,
            machine=_machine(),
            began=_began(number),
        )

    @classmethod
    def from_text(cls, text: str) -> Owner | None:
        """Parse what `to_text` wrote, None if it is something else or not fully written yet."""
        try:
            owner = cls(**json.loads(text))
            owner.describe()
        except (ValueError, TypeError, OverflowError, OSError, RecursionError):
            return None
        return owner if 0 < owner.process < 2**31 else None

    def to_text(self) -> str:
        """Serialise to a line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    def describe(self) -> str:
        """Describe the owner for a message, by process, host and local time."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.process:d} on {self.host}, since {since}"

    def is_running(self) -> bool | None:
        """Return whether the process is running, None if that can't be known.

        It can only be known on the same host and in the same process namespace, and only if the
        system reports when a process started: otherwise its number may have been reused.
        """
        if self.machine is None or self.machine != _machine() or self.host != platform.node():
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # It exists and is another user's.
        began = _began(self.process)
        return None if began is None else began == self.began


def _machine() -> str | None:
    proc = Path("/proc")
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        numbering = os.readlink(proc / "self/ns/pid")
    except OSError:
        address = uuid.getnode()
        return None if address >> 40 & 1 else f"{address:012x}"  # that bit: a random address
    with contextlib.suppress(OSError):  # Linux before 5.6 has only one clock
        numbering += os.readlink(proc / "self/ns/time")
    return f"{boot} {numbering}"


def _began(process: int) -> int | None:
    """Return the clock tick that a process started at; -1 if it is a zombie.

    None if the system doesn't report it, or hides other users' processes.
    """
    try:
        # The name comes first, in parentheses, and may contain any character.
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        return -1 if fields[0].decode() in _DEAD_STATES else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
