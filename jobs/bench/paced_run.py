"""A training run that advances only on request, so that several can be timed in turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

from logitbank.pipeline.student import Progress, TrainResult
from logitbank.pipeline.student.progress import ReportProgress

_TO_THE_END = 2**62


class Abandoned(Exception):  # noqa: N818 - not an error: it ends a run that nobody waits for
    """Ends a run before its time."""


class PacedRun:
    """A training run in its own thread, which pauses after the requested number of steps.

    It times the student stage's own loop, not a copy of it: the run is paused between two steps,
    where it reports its progress. Switching threads takes tens of microseconds.

    Args:
        train: runs the student stage with a progress callback.
        settle: waits until the training device has finished its work.

    `steps` counts the steps taken, `images` the images of finished epochs.
    """

    def __init__(
        self, train: Callable[[ReportProgress], TrainResult], settle: Callable[[], None]
    ) -> None:
        self._settle = settle
        self._allowed: SimpleQueue[int] = SimpleQueue()
        self._waits: SimpleQueue[None] = SimpleQueue()
        self._result: Future[TrainResult] = Future()
        self._left = 0
        self.steps = self.images = 0
        threading.Thread(target=self._run, args=(train,), daemon=True).start()

    def take(self, steps: int) -> None:
        """Let the run take some steps, and wait for them.

        The first call also sets the run up. Raises what the run raises, and ValueError if the run
        has fewer steps left.
        """
        self._allowed.put(steps)
        self._waits.get()
        if self._result.done():
            self._result.result()
            raise ValueError(f"the run ended after {self.steps} steps, before {steps} more")

    def finish(self) -> TrainResult:
        """Let the run go on to its end, and return its result."""
        self._allowed.put(_TO_THE_END)
        return self._result.result()

    def abandon(self) -> None:
        """End the run, if it is paused, and wait until it has ended."""
        self._allowed.put(0)
        self._result.exception()

    def _run(self, train: Callable[[ReportProgress], TrainResult]) -> None:
        try:
            self._await_turn()
            self._result.set_result(train(self._stepped))
        except BaseException as error:
            self._result.set_exception(error)
        finally:
            self._waits.put(None)

    def _stepped(self, progress: Progress) -> None:
        if progress.metrics is not None:
            self.images += progress.images
            return
        self.steps += 1
        self._left -= 1
        if self._left == 0:
            self._settle()
            self._waits.put(None)
            self._await_turn()

    def _await_turn(self) -> None:
        self._left = self._allowed.get()
        if self._left == 0:
            raise Abandoned
