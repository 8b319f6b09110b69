"""Where a job of many stages stands: a line a stage, and a log of what each says meanwhile."""

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
    """Check that such a job may fill a folder: a new or an empty one, or one that has its log.

    Raises:
        UsageError: it is a file, or holds something else.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out} is a file: --out names a folder")
    names = [name for name in os.listdir(out) if not name.startswith(".")]
    if names and log not in names:
        held = describe_contents(LocalFiles(out))
        raise UsageError(
            f"{out} was not made by this job (it holds {held}, and no {log}): name another --out"
        )


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
        with self._log.open("a", encoding="utf-8", errors="backslashreplace") as log:
            print(f"{place} {title}", file=log)
            with contextlib.redirect_stderr(log):
                yield
        print(f"{' ' * len(place)} {time.perf_counter() - began:.1f} s", flush=True)
