"""Progress of a job of many stages: a line for each stage, and a log of what each prints."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from logitbank.stores.errors import UsageError
from logitbank.stores.files import LocalFiles
from logitbank.stores.housekeeping.contents import describe_contents


def require_own_folder(out: Path, log: str) -> None:
    """Check that a folder is new, empty, or holds the log of an earlier run of the job.

    Raises:
        UsageError: it is a file, or contains something else.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out} is a file: --out must name a folder")
    names = [name for name in os.listdir(out) if not name.startswith(".")]
    if names and log not in names:
        held = describe_contents(LocalFiles(out))
        raise UsageError(
            f"{out} was not made by this job (it contains {held}, and no {log}): name another --out"
        )


class StageLog:
    """Prints which stage runs and how long it took; the stage's stderr goes to a log.

    Args:
        count: the number of stages.
        log: the file to append to.
    """

    def __init__(self, count: int, log: Path) -> None:
        self._count, self._log = count, log
        self._number = 0

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Run a `with` block as the next stage."""
        self._number += 1
        place = f"[{self._number:>{len(str(self._count))}}/{self._count}]"
        print(f"{place} {title}", flush=True)
        began = time.perf_counter()
        with self._log.open("a", encoding="utf-8", errors="backslashreplace") as log:
            print(f"{place} {title}", file=log)
            with contextlib.redirect_stderr(log):
                yield
        print(f"{' ' * len(place)} {time.perf_counter() - began:.1f} s", flush=True)
