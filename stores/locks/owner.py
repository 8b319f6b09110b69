"""Which process something belongs to, and whether it still runs."""

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
    """A process as a lock names it; the token tells apart what one process owns at two times.

    `machine` is the running system and its numbering of processes: that of a container is its own,
    also where its host's name is another's; None where the system gives nothing of the kind.
    `began` is when the process started, by that system's clock, since numbers are given again; None
    where there is no `/proc` to ask.
    """

    host: str
    process: int
    since: float
    token: str
    machine: str | None = None
    began: int | None = None

    @classmethod
    def this_process(cls) -> Owner:
        """Name the process that asks."""
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
        """Read what `to_text` wrote, None where it is something else, or not all there yet."""
        try:
            owner = cls(**json.loads(text))
            owner.told()
        except (ValueError, TypeError, OverflowError, OSError, RecursionError):
            return None
        return owner if 0 < owner.process < 2**31 else None

    def to_text(self) -> str:
        """Write it as a line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    def told(self) -> str:
        """Name it for a message, by process, host and local time."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.process:d} on {self.host}, since {since}"

    def is_running(self) -> bool | None:
        """Say whether the process is there, None where that can't be told from here.

        It can be told on the same system alone: another host, or another container's numbering of
        processes, says nothing. Where the system doesn't say when a process began, one of the
        same number may be another.
        """
        if self.machine is None or self.machine != _machine() or self.host != platform.node():
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # It is there, and another user's.
        began = _began(self.process)
        return None if began is None else began == self.began


def _machine() -> str | None:
    proc = Path("/proc")
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        numbering = os.readlink(proc / "self/ns/pid")
    except OSError:
        address = uuid.getnode()
        return None if address >> 40 & 1 else f"{address:012x}"  # that bit: it was made up
    with contextlib.suppress(OSError):  # before Linux 5.6 there is but one clock
        numbering += os.readlink(proc / "self/ns/time")
    return f"{boot} {numbering}"


def _began(process: int) -> int | None:
    """Return the clock tick that a process started at; -1 where it ended and its parent sleeps.

    None where the system doesn't say, or hides other users' processes.
    """
    try:
        # Its name comes first, in parentheses, and may hold any character.
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        return -1 if fields[0].decode() in _DEAD_STATES else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
