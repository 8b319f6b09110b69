"""What runs on a worker: the job that it opens once, and the tasks that use it.

A scheduler imports this module when tasks pass through it. So nothing here imports torch, and the
job travels as bytes that workers alone unpickle.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distributed import get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from logitbank.jobs.memory import keep_freed_memory
from logitbank.pipeline.provenance import shared_versions
from logitbank.pipeline.tasks import OpenJob, TaskResult, run_task
from logitbank.stores.errors import LogitbankError
from logitbank.stores.importing import forget_modules
from logitbank.stores.manifest import Measured
from logitbank.stores.units import UnitGroup, WrittenUnit

if TYPE_CHECKING:
    from distributed import Worker


class JobPlugin(WorkerPlugin):
    """Holds a job on each worker and opens it when the first task asks.

    Args:
        name: tells it from other jobs on the same workers.
        job: the pickled job.
        threads: that the job computes with; None for as many as the worker has.
        folder: where modules of the user's own are looked for, beside the environment.
    """

    def __init__(self, name: str, job: bytes, threads: int | None, folder: str) -> None:
        self.name = name
        self._job, self._threads, self._folder = job, threads, folder
        self._opened: OpenJob | None = None
        self._added = False

    def setup(self, worker: Worker) -> None:
        """Get ready on a worker; opens nothing yet, so that nobody waits for it here."""
        self._lock = threading.Lock()
        self._threads = self._threads or worker.state.nthreads

    def teardown(self, worker: Worker) -> None:
        """Let the job go, and its folder: the next one's modules may have the same names."""
        if self._opened is not None:
            self._opened.close()
        if self._added:
            sys.path.remove(self._folder)

    def open_job(self) -> OpenJob:
        """Give the opened job; raises whatever opening it does."""
        with self._lock:
            if self._opened is None:
                if self._folder not in sys.path:
                    sys.path.append(self._folder)
                    self._added = True
                keep_freed_memory()
                job = pickle.loads(self._job)
                # A worker outlives a job, and its user edits code between two of them.
                forget_modules(job.user_modules)
                self._opened = job.open(self._threads)
            return self._opened


def open_only(job: str) -> TaskResult[bool]:
    """Open a job, and compute nothing."""
    return run_task(_plugin(job).open_job, lambda opened: True)


def compute_groups(
    job: str, groups: Sequence[UnitGroup], created: str
) -> TaskResult[list[WrittenUnit]]:
    """Compute groups of units of the store that was made at the time `created`."""
    return run_task(_plugin(job).open_job, lambda opened: opened.compute(groups, created))


def measure_accuracy(job: str, most: int | None) -> TaskResult[Measured]:
    """Measure a teacher on centre crops, of `most` samples at most."""

    def measure(opened: Any) -> Measured:
        return opened.clean_accuracy(most)

    return run_task(_plugin(job).open_job, measure)


def worker_facts(device: str | None) -> dict[str, str]:
    """Tell the versions here, and the `device` and `device_name` to compute on.

    Args:
        device: the one asked for; None for CUDA where there is one, else the CPU. Where it is not
            there, a `problem` is told.
    """
    if device == "cpu":
        return shared_versions() | {"device": "cpu", "device_name": "cpu"}
    from logitbank.pipeline.devices import usable_device
    from logitbank.pipeline.teacher import device_name

    try:
        found = str(usable_device(device))
        return shared_versions() | {"device": found, "device_name": device_name(found)}
    except LogitbankError as error:
        return shared_versions() | {"problem": str(error)}


def _plugin(job: str) -> JobPlugin:
    found = get_worker().plugins[job]
    assert isinstance(found, JobPlugin), "the client has registered it under this name"
    return found
