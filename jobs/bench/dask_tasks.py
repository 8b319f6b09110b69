"""Tasks that do nothing, and a separate scheduler process, so that its memory can be measured."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitbank.jobs.cluster.results import TaskResult
from logitbank.stores.errors import LogitbankError
from logitbank.stores.layout import Unit
from logitbank.stores.units import UnitGroup, WrittenUnit

if TYPE_CHECKING:
    from distributed import Client

SECONDS_TO_START = 60.0
CLAIMED_SECONDS = 10.0


def do_nothing(groups: list[UnitGroup]) -> TaskResult[list[WrittenUnit]]:
    """Report units as written, each with so long a time that the next task is one unit again."""
    written = [WrittenUnit(unit, {}) for group in groups for unit in group]
    return TaskResult(written, CLAIMED_SECONDS * len(written), "")


def peak_mebibytes() -> float:
    """Return the peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def through_the_window(client: Client, count: int) -> int:
    """Submit empty tasks as those of a store are submitted; return their number."""
    from logitbank.jobs.cluster.window import SECONDS_WITHOUT_WORKERS, Window

    accepted = 0

    def submit(number: int, groups: Any) -> Any:
        return client.submit(do_nothing, groups, key=f"nothing-{time.time_ns()}", pure=False)

    def accept(written: WrittenUnit) -> None:
        nonlocal accepted
        accepted += 1

    window = Window(client, submit, accept, SECONDS_WITHOUT_WORKERS)
    window.run([(Unit(view, 0),) for view in range(count)])
    if accepted != count:
        raise LogitbankError(f"only {accepted} of {count} tasks came back: the timing is void")
    return accepted


def all_at_once(client: Client, count: int) -> int:
    """Submit as many empty tasks in a single call; return their number."""
    groups = [[(Unit(view, 0),)] for view in range(count)]
    return len(client.gather(client.map(do_nothing, groups, pure=False)))


@contextlib.contextmanager
def separate_scheduler(folder: Path, workers: int) -> Iterator[str]:
    """Yield the address of a scheduler that runs, like its one-thread workers, in a process.

    Raises:
        LogitbankError: the scheduler doesn't start.
    """
    file = folder / "scheduler.json"
    scheduler = ["dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    started = [_started([*scheduler, "--scheduler-file", str(file)])]
    try:
        _wait_for(lambda: file.exists() and bool(file.read_text()))
        for _ in range(workers):
            command = ["dask_worker", "--scheduler-file", str(file), "--nthreads", "1"]
            started.append(_started([*command, "--no-nanny"]))
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def _started(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:], "--no-dashboard"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not condition():
        if time.monotonic() > deadline:
            raise LogitbankError(f"a Dask scheduler has not started in {SECONDS_TO_START:.0f} s")
        time.sleep(0.05)
