"""Schedulers, workers and jobs as real processes, and the pieces that tests of clusters share."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.jobs.command import ROOT

SECONDS = 60


@dataclass
class Scheduler:
    """A scheduler process and the workers that were started for it."""

    address: str
    file: Path
    processes: list[subprocess.Popen[bytes]]

    def add_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread that nobody restarts."""
        words = ["distributed.cli.dask_worker", "--scheduler-file", self.file, "--nthreads", "1"]
        words += ["--no-nanny", "--no-dashboard", "--death-timeout", "60"]
        process = _python(words, self.file.parent, environment)
        self.processes.append(process)
        return process


@contextlib.contextmanager
def scheduler(folder: Path, workers: int = 0, **environment: str) -> Iterator[Scheduler]:
    """Run a scheduler with some workers for the time of a `with` block."""
    file = folder / "scheduler.json"
    words = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    words += ["--scheduler-file", file, "--dashboard-address", "127.0.0.1:0"]
    process = _python(words, folder, environment)
    processes = [process]
    try:
        wait_until(lambda: file.exists() and bool(file.read_text()))
        found = Scheduler(json.loads(file.read_text())["address"], file, processes)
        for _ in range(workers):
            found.add_worker()
        yield found
    finally:
        for each in reversed(processes):
            each.kill()
            each.wait()


def start_job(folder: Path, *words: object, **environment: str) -> subprocess.Popen[str]:
    """Start a job in a folder, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "logitbank.jobs.cli", *map(str, words)],
        cwd=folder,
        env=_environment(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.02)


def group_members(group: int) -> list[str]:
    """List the processes of a group that still run."""
    found = subprocess.run(
        ["ps", "-eo", "pgid=,pid=,stat=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 3) for line in found.stdout.splitlines()]
    return [row[3] for row in rows if int(row[0]) == group and not row[2].startswith("Z")]


def _python(
    words: list[object], folder: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, words)],
        cwd=folder,
        env=_environment(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _environment(changes: dict[str, str]) -> dict[str, str]:
    paths = [changes.pop("PYTHONPATH", ""), str(ROOT), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(each for each in paths if each)
    return {**os.environ, "PYTHONPATH": path, **changes}
