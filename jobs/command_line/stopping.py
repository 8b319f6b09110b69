"""Ending well when a queue asks for it: the block in hand is finished, what follows is left.

SLURM sends SIGTERM before it preempts a job or its time is up, and `sbatch --signal=USR1@300`
SIGUSR1 five minutes earlier. A job that heeds them leaves a store that the same command goes on
with, and exits with 75, so that a batch script knows to queue it again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

TRY_AGAIN = os.EX_TEMPFAIL
"""The exit code, 75, of a job that was asked to stop and goes on when it is run again."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
SECONDS_UNTIL_AGAIN = 0.05


class StopRequested(BaseException):
    """A signal asked the job to stop, and no block is in hand; its text is the signal's name.

    Like KeyboardInterrupt it is not an Exception, so that no library takes it for a failure of its
    own.
    """


class StopSignals:
    """Raise where a signal asks for an end, or, with a block in hand, finish that first."""

    def __init__(self) -> None:
        self._received: str | None = None
        self._raised = False
        self._in_hand = False
        self._again: threading.Timer | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take a signal.

        Raises:
            StopRequested: none was raised yet, no block is in hand and no import under way.
        """
        self._received = self._received or signal.Signals(number).name
        if self._in_hand or self._raised:
            return
        if _is_importing(frame):
            # An exception would come out in the C++ of torch's import, which aborts the process.
            self._again = threading.Timer(
                SECONDS_UNTIL_AGAIN, signal.pthread_kill, (threading.get_ident(), number)
            )
            self._again.daemon = True
            self._again.start()
            return
        self._raise_if_received()

    def close(self) -> None:
        """Forget a signal that was put off."""
        if self._again is not None:
            self._again.cancel()

    @contextmanager
    def blocks_in_hand(self) -> Iterator[Callable[[], bool]]:
        """Note a signal for the time of a `with` block, instead of raising where it stands.

        Yields:
            A function that says whether one came.

        Raises:
            StopRequested: at the end, where one came and nothing else is raised.
        """
        self._in_hand = True
        try:
            self._raise_if_received()
            yield lambda: self._received is not None
        finally:
            self._in_hand = False
        self._raise_if_received()

    def _raise_if_received(self) -> None:
        if self._received is not None:
            self._raised = True
            raise StopRequested(self._received)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Heed SIGTERM and SIGUSR1 instead of dying of them, for the time of a `with` block.

    Outside of the main thread, where Python can't handle signals, none is noticed.
    """
    stop = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in STOP_SIGNALS}
    try:
        yield stop
    finally:
        stop.close()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def until_stopped(job: str, work: Callable[[StopSignals], int | None]) -> int:
    """Run a job that heeds the signals, and return its exit code: 75 where one ended it."""
    try:
        with stop_signals() as stop:
            return work(stop) or 0
    except StopRequested as request:
        return tell_stopped(job, str(request))


def stopped_by(job: str) -> str:
    """Return the beginning of the line that says what stopped a job."""
    return f"logitbank {job}: stopped by "


def tell_stopped(job: str, cause: str) -> int:
    """Print what stopped a job on stderr, and return its exit code."""
    print(f"{stopped_by(job)}{cause}: the same command goes on from here", file=sys.stderr)
    return TRY_AGAIN
