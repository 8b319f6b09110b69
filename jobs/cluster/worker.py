"""What runs on a worker: a store's task that is opened once, and the Dask tasks that use it.

A scheduler imports this module when Dask tasks pass through it. So nothing here imports torch at
the top, and the store's task travels as bytes that only workers unpickle.
"""

from __future__ import annotations

import dataclasses
import pickle
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distributed import get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from logitbank.jobs.cluster.results import TaskResult, run_task
from logitbank.jobs.command_line.malloc import keep_freed_memory
from logitbank.pipeline.provenance import shared_versions
from logitbank.pipeline.store_task import OpenTask, StoreTask
from logitbank.stores.errors import LogitbankError
from logitbank.stores.importing import forget_modules
from logitbank.stores.manifest import Measured
from logitbank.stores.units import UnitGroup, UnitWriter, WrittenUnit

if TYPE_CHECKING:
    from distributed import Worker


class TaskPlugin(WorkerPlugin):
    """Holds a store's task on each worker, and opens it for the first Dask task that needs it.

    Args:
        name: unique among the plugins of the workers.
        task: the pickled `StoreTask`.
        store: the absolute path or URL of its store.
        threads: the number to compute with; None for as many as the worker has.
        folder: searched for the user's own modules, after the environment.
    """

    def __init__(
        self, name: str, task: bytes, store: str, threads: int | None, folder: str
    ) -> None:
        self.name = name
        self._task, self._store, self._threads, self._folder = task, store, threads, folder
        self._opened: OpenTask | None = None
        self._added = False

    def setup(self, worker: Worker) -> None:
        """Set up locks on a worker; the task is opened later, so that starting is quick."""
        self._lock, self._computing = threading.Lock(), threading.Lock()
        self._writers: dict[str, UnitWriter] = {}
        self._threads = self._threads or worker.state.nthreads

    def teardown(self, worker: Worker) -> None:
        """Close the task and forget its folder: the next task's modules may have the same names."""
        if self._opened is not None:
            self._opened.close()
        if self._added:
            sys.path.remove(self._folder)

    def open_task(self) -> OpenTask:
        """Return the opened task; raises what `StoreTask.open` raises."""
        with self._lock:
            if self._opened is None:
                if self._folder not in sys.path:
                    sys.path.append(self._folder)
                    self._added = True
                keep_freed_memory()
                task: StoreTask = pickle.loads(self._task)
                # A worker outlives a task, and users edit their code between two of them.
                forget_modules(task.user_modules)
                self._manifest = task.manifest
                self._opened = task.open(self._threads)
            return self._opened

    def check(self, opened: OpenTask) -> Measured:
        """Check the task while nothing is being computed."""
        with self._computing:
            return opened.check()

    def compute(
        self, opened: OpenTask, groups: Sequence[UnitGroup], created: str
    ) -> list[WrittenUnit]:
        """Compute groups of units of the store made at the time `created`; calls take turns.

        Raises:
            LogitbankError: as `OpenTask.compute`.
            StoreError: the store does not exist.
        """
        with self._computing:
            if created not in self._writers:
                provenance = dataclasses.replace(self._manifest.provenance, created=created)
                manifest = dataclasses.replace(self._manifest, provenance=provenance)
                self._writers[created] = UnitWriter.attach(self._store, manifest)
            writer = self._writers[created]
            opened.require_samples(writer, [unit for group in groups for unit in group])
            written: list[WrittenUnit] = []
            opened.compute(groups, lambda unit, values: written.append(writer.write(unit, values)))
            return written


def check_task(name: str) -> TaskResult[Measured]:
    """Check a task before the first unit is computed."""
    plugin = _plugin(name)
    return run_task(plugin.open_task, plugin.check)


def compute_groups(
    name: str, groups: Sequence[UnitGroup], created: str
) -> TaskResult[list[WrittenUnit]]:
    """Compute groups of units of the store made at the time `created`."""
    plugin = _plugin(name)
    return run_task(plugin.open_task, lambda opened: plugin.compute(opened, groups, created))


def worker_facts(device: str | None) -> dict[str, str]:
    """Return this worker's versions, and the `device` and `device_name` to compute on.

    Args:
        device: the one asked for; None for CUDA if available, else the CPU.

    Returns:
        A mapping that has a `problem` in place of the device if the worker does not have it.
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


def _plugin(name: str) -> TaskPlugin:
    found = get_worker().plugins[name]
    assert isinstance(found, TaskPlugin), "the client has registered it under this name"
    return found
