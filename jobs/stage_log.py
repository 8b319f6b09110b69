"""Where a job of many stages stands: a line a stage, and a log of what each says meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path


class StageLog:
    """Prints which stage runs and how long it took; what it says on stderr goes to a log.

    Args:
        count: how many stages there are.
        log: the file that is appended to.
    """

    def __init__(self, count: int, log: Path) -> None:
        self._count, self._log = count, log
        self._number = 0

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Show the next stage for the time of a `with` block."""
        self._number += 1
        place = f"[{self._number:>{len(str(self._count))}}/{self._count}]"
        print(f"{place} {title}", flush=True)
        began = time.perf_counter()
        with self._log.open("a") as log, contextlib.redirect_stderr(log):
            print(f"{place} {title}", file=log)
            yield
        print(f"{' ' * len(place)} {time.perf_counter() - began:.1f} s", flush=True)
