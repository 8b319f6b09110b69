"""Graceful stops on a batch system: finish the block in hand and leave the rest.

SLURM sends SIGTERM before it preempts a batch job or its time is up, and with
`sbatch --signal=USR1@300` SIGUSR1 five minutes earlier. A job that handles them leaves a store
that the same command resumes, and exits with 75, so that a batch script knows to requeue it.
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
"""The exit code, 75, of a job that was asked to stop and resumes when it is run again."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
SECONDS_UNTIL_AGAIN = 0.05


class StopRequested(BaseException):
    """A signal asked the job to stop and no block is in hand; the message is the signal's name.

    Like KeyboardInterrupt it is not an Exception, so that no library handles it as a failure of
    its own.
    """


class StopSignals:
    """Handles signals: raises StopRequested at once, or after the block in hand."""

    def __init__(self) -> None:
        self._received: str | None = None
        self._raised = False
        self._in_hand = False
        self._again: threading.Timer | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            StopRequested: none was raised before, no block is in hand and no import is running.
        """
        self._received = self._received or signal.Signals(number).name
        if self._in_hand or self._raised:
            return
        if _is_importing(frame):
            # An exception would surface in the C++ of torch's import, which aborts the process.
            self._again = threading.Timer(
                SECONDS_UNTIL_AGAIN, signal.pthread_kill, (threading.get_ident(), number)
            )
            self._again.daemon = True
            self._again.start()
            return
        self._raise_if_received()

    def close(self) -> None:
        """Drop a signal that was deferred."""
        if self._again is not None:
            self._again.cancel()

    @contextmanager
    def blocks_in_hand(self) -> Iterator[Callable[[], bool]]:
        """Defer signals to the end of a `with` block.

        Yields:
            A function that returns whether a signal came.

        Raises:
            StopRequested: at the end, if a signal came and nothing else was raised.
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
    """Yield a handler of SIGTERM and SIGUSR1, installed within the `with` block.

    Outside the main thread, where Python can't handle signals, nothing is installed.
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
    """Run a job under `stop_signals` and return its exit code: 75 if a signal stopped it."""
    try:
        with stop_signals() as stop:
            return work(stop) or 0
    except StopRequested as request:
        return report_stopped(job, str(request))


def stopped_prefix(job: str) -> str:
    """Return the beginning of the line that reports what stopped a job."""
    return f"logitbank {job}: stopped by "


def report_stopped(job: str, cause: str) -> int:
    """Print what stopped a job on stderr, and return its exit code."""
    print(
        f"{stopped_prefix(job)}{cause}: run the same command again to go on from here",
        file=sys.stderr,
    )
    return TRY_AGAIN
