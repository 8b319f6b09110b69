"""Progress with rate and time left: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A callable that shows progress, given the number of units done and the total."""

    def __init__(self, title: str, unit: str, stream: TextIO | None = None) -> None:
        self._title, self._unit = title, unit
        self._stream = stream or sys.stderr
        self._bar: tqdm | None = None
        self._started = self._printed = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if self._stream.isatty():
            self._draw(done, total)
        elif done == total or time.monotonic() - self._printed >= SECONDS_BETWEEN_LINES:
            self._print(done, total)

    def line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        tqdm.write(text, file=self._stream)

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=total, desc=self._title, unit=f" {self._unit}", file=self._stream
            )
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()

    def _print(self, done: int, total: int) -> None:
        self._printed = time.monotonic()
        elapsed = self._printed - self._started
        meter = tqdm.format_meter(
            done, total, elapsed, prefix=self._title, unit=f" {self._unit}", ncols=0
        )
        print(meter, file=self._stream, flush=True)
