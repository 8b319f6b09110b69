"""A store's task on a cluster, from its first worker to the last unit."""

from __future__ import annotations

import dataclasses
import os
import pickle
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitbank.jobs.cluster.clusters import OpenCluster, open_cluster
from logitbank.jobs.cluster.where import Where
from logitbank.pipeline.provenance import shared_versions, version_differences
from logitbank.stores.errors import LogitbankError
from logitbank.stores.files import parse_location
from logitbank.stores.manifest import Manifest, Measured
from logitbank.stores.units import UnitGroup, remove_partials, require_visible
from logitbank.stores.writer import StoreWriter

if TYPE_CHECKING:
    from logitbank.jobs.cluster.results import TaskResult
    from logitbank.pipeline.store_task import StoreTask

SECONDS_UNTIL_WORKERS = 30.0
SECONDS_BETWEEN_LOOKS = 0.5
OF_A_SCHEDULER = ("python", "logitbank", "dask", "distributed")

Progress = Callable[[int, int], None]


class Workers:
    """A cluster whose workers can compute: some are there, with the packages that are here.

    `device` is what they compute on, and `device_name` its name for people.
    """

    def __init__(self, cluster: OpenCluster, device: str, device_name: str) -> None:
        self._cluster, self.device, self.device_name = cluster, device, device_name

    @contextmanager
    def task(self, task: StoreTask) -> Iterator[TaskOnWorkers]:
        """Hand a store's task to every worker, also to those that come later, for a `with` block.

        It is computed on the device of the workers.
        """
        from logitbank.jobs.cluster.worker import TaskPlugin

        client, name = self._cluster.client, f"logitbank-{uuid.uuid4().hex[:8]}"
        task = task.on_device(self.device, self.device_name)
        store = parse_location(task.store).absolute()
        threads = self._cluster.threads
        plugin = TaskPlugin(name, pickle.dumps(task), store, threads, os.getcwd())
        try:
            client.register_plugin(plugin, name=name)
        except Exception as error:  # Whatever a worker without our package makes of it.
            raise _cannot_run("a worker", error) from error
        try:
            yield TaskOnWorkers(self._cluster, name, task)
        finally:
            if client.status == "running":
                client.unregister_worker_plugin(name)


class TaskOnWorkers:
    """A store's task that a cluster's workers know."""

    def __init__(self, cluster: OpenCluster, name: str, task: StoreTask) -> None:
        self._cluster, self._name, self._task = cluster, name, task

    def check(self) -> Manifest:
        """Have one worker check the task before the first unit is computed.

        Returns:
            The manifest of the store to be made.

        Raises:
            LogitbankError: it can't, or no unit should be computed.
        """
        from logitbank.jobs.cluster.worker import check_task

        future = self._cluster.client.submit(
            check_task, self._name, key=f"{self._name}-check", pure=False
        )
        result: TaskResult[Measured] = _waited(future, self._cluster)
        if result.value is None:
            raise LogitbankError(f"a worker on {result.host} can't begin: {result.error}")
        return dataclasses.replace(self._task.manifest, measured=result.value)

    def compute(self, groups: Sequence[UnitGroup], writer: StoreWriter, progress: Progress) -> None:
        """Have the workers compute groups of units, and enter them into a store's ledger.

        Raises:
            LogitbankError: as `Window.run`.
            StoreError: a worker has written a unit that this machine can't see.
        """
        from logitbank.jobs.cluster import window
        from logitbank.jobs.cluster.worker import compute_groups

        client, created = self._cluster.client, writer.manifest.provenance.created
        total, accepted = sum(map(len, groups)), []

        def submit(number: int, given: Sequence[UnitGroup]) -> Any:
            first = given[0][0]
            key = f"{self._name}-{number}-view-{first.view}-block-{first.block}"
            return client.submit(compute_groups, self._name, given, created, key=key, pure=False)

        def accept(written: Any) -> None:
            writer.accept(written)
            accepted.append(written)
            progress(len(accepted), total)

        window.Window(client, submit, accept, window.SECONDS_WITHOUT_WORKERS).run(groups)
        require_visible(writer.files, writer.manifest, accepted)
        remove_partials(writer.files)


@contextmanager
def open_workers(where: Where, device: str | None, report: str | None = None) -> Iterator[Workers]:
    """Open a cluster, wait for its first worker and find out whether it can do the work.

    Args:
        where: which cluster.
        device: what is to be computed on; None for CUDA where every worker has it, else the CPU.
        report: the file for Dask's performance report, if one is wanted.

    Raises:
        LogitbankError: as `open_cluster`; no worker comes; versions differ between the machines; or
            workers lack the device.
    """
    with open_cluster(where) as cluster:
        _require_scheduler_versions(cluster)
        print(_dashboard_line(cluster), flush=True)
        _wait_for_workers(cluster)
        found = _device_of_all(_facts(cluster, device))
        with _reporting(report):
            yield Workers(cluster, *found)


@contextmanager
def _reporting(report: str | None) -> Iterator[None]:
    """Save Dask's performance report of a `with` block that ends well."""
    if report is None:
        yield
        return
    from distributed import performance_report

    recorder = performance_report(filename=str(Path(report).absolute()))
    recorder.__enter__()
    yield
    try:
        recorder.__exit__(None, None, None)
        print(f"{report}: Dask's report of where the time went")
    except Exception as error:  # The store matters more than a picture that bokeh fails to draw.
        print(f"{report} can't be saved: {type(error).__name__}: {error}", file=sys.stderr)


def _dashboard_line(cluster: OpenCluster) -> str:
    import importlib.util

    link = ""
    if importlib.util.find_spec("bokeh") is not None:
        try:
            link = cluster.client.dashboard_link or ""
        except (KeyError, ValueError):
            link = ""
    return f"dashboard of {cluster.name}: {link or 'none (it takes bokeh)'}"


def _wait_for_workers(cluster: OpenCluster) -> None:
    from logitbank.jobs.cluster.window import count_workers

    began, told = time.monotonic(), False
    while not count_workers(cluster.client):
        waited = time.monotonic() - began
        if not cluster.may_wait and waited > SECONDS_UNTIL_WORKERS:
            raise LogitbankError(
                f"{cluster.name} has no workers, and none has come for "
                f"{SECONDS_UNTIL_WORKERS:.0f} s: start some, as `dask worker ADDRESS --nthreads 1`"
            )
        if cluster.may_wait and not told:
            line = f"waiting until the queue starts the first of {cluster.workers} workers"
            print(line, flush=True)
            told = True
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _require_scheduler_versions(cluster: OpenCluster) -> None:
    wanted = {name: shared_versions()[name] for name in OF_A_SCHEDULER}
    try:
        found = cluster.client.run_on_scheduler(shared_versions)
    except Exception as error:  # Whatever an environment without our package makes of it.
        raise _cannot_run("the scheduler", error) from error
    differences = version_differences(found, wanted)
    if differences:
        raise LogitbankError(
            f"the scheduler of {cluster.name} has other packages: {'; '.join(differences)}: "
            "install the same in both places"
        )


def _facts(cluster: OpenCluster, device: str | None) -> dict[str, dict[str, str]]:
    """Ask every worker that is there for its versions and its device, by address."""
    from logitbank.jobs.cluster.worker import worker_facts

    try:
        found = cluster.client.run(worker_facts, device)
    except Exception as error:  # As for a scheduler.
        raise _cannot_run("a worker", error) from error
    if not found:
        raise LogitbankError(f"{cluster.name} has lost its workers before they could begin")
    wanted = shared_versions()
    for address, facts in found.items():
        differences = version_differences(facts, wanted)
        if differences:
            raise LogitbankError(
                f"the worker {address} has other packages: {'; '.join(differences)}: install the "
                "same in both places"
            )
        if "problem" in facts:
            raise LogitbankError(f"the worker {address} can't compute: {facts['problem']}")
    return found


def _device_of_all(found: dict[str, dict[str, str]]) -> tuple[str, str]:
    devices = {facts["device"] for facts in found.values()}
    if len(devices) > 1:
        raise LogitbankError(
            f"some workers have {' and some '.join(sorted(devices))}, whose logits differ in their "
            "last bits: name --device"
        )
    names = sorted({facts["device_name"] for facts in found.values()})
    return devices.pop(), ", ".join(names)


def _cannot_run(who: str, error: Exception) -> LogitbankError:
    return LogitbankError(
        f"{who} can't run logitbank ({type(error).__name__}: {error}): install the same packages "
        "there as here"
    )


def _waited(future: Any, cluster: OpenCluster) -> Any:
    """Wait for one task, as long as there are workers."""
    from logitbank.jobs.cluster import window

    workers = window.WorkerCount(cluster.client, window.SECONDS_WITHOUT_WORKERS)
    while True:
        workers.require()
        try:
            return future.result(SECONDS_BETWEEN_LOOKS)
        except TimeoutError:
            continue
        except Exception as error:
            raise LogitbankError(
                f"a worker can't begin: {type(error).__name__}: {error}"
            ) from error
