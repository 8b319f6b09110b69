"""Running a store's task on a cluster, from the first worker to the last unit."""

from __future__ import annotations

import dataclasses
import os
import pickle
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitbank.jobs.cluster.clusters import OpenCluster, open_cluster
from logitbank.jobs.cluster.spec import ClusterSpec
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
SECONDS_BETWEEN_POLLS = 0.5
SCHEDULER_PACKAGES = ("python", "logitbank", "dask", "distributed")

Progress = Callable[[int, int], None]


class Workers:
    """A cluster with workers that are ready to compute, with the same packages as the client.

    `device` is what they compute on, and `device_name` is its name for messages.
    """

    def __init__(self, cluster: OpenCluster, device: str, device_name: str) -> None:
        self._cluster, self.device, self.device_name = cluster, device, device_name

    @contextmanager
    def task(self, task: StoreTask) -> Iterator[TaskOnWorkers]:
        """Register a store's task on all workers, later ones included, within a `with` block.

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
        except Exception as error:  # A worker without our package may raise anything.
            raise _cannot_run("a worker", error) from error
        try:
            yield TaskOnWorkers(self._cluster, name, task)
        finally:
            if client.status == "running":
                client.unregister_worker_plugin(name)


class TaskOnWorkers:
    """A store's task, registered on the workers of a cluster."""

    def __init__(self, cluster: OpenCluster, name: str, task: StoreTask) -> None:
        self._cluster, self._name, self._task = cluster, name, task

    def check(self) -> Manifest:
        """Have a worker check the task before the first unit is computed.

        Returns:
            The manifest of the store to be made.

        Raises:
            LogitbankError: the worker can't open the task, or the check fails.
        """
        from logitbank.jobs.cluster.worker import check_task

        future = self._cluster.client.submit(
            check_task, self._name, key=f"{self._name}-check", pure=False
        )
        result: TaskResult[Measured] = _result_of(future, self._cluster)
        if result.value is None:
            raise LogitbankError(f"a worker on {result.host} can't start: {result.error}")
        return dataclasses.replace(self._task.manifest, measured=result.value)

    def compute(self, groups: Sequence[UnitGroup], writer: StoreWriter, progress: Progress) -> None:
        """Have the workers compute groups of units, and add them to the store's ledger.

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
def open_workers(
    spec: ClusterSpec, device: str | None, report: str | None = None
) -> Iterator[Workers]:
    """Yield the workers of a cluster, once the first has started and is able to compute.

    Args:
        spec: the cluster to open.
        device: the device to compute on; None for CUDA if every worker has it, else the CPU.
        report: the file for Dask's performance report, None for no report.

    Raises:
        LogitbankError: as `open_cluster`; no worker starts; versions differ between the machines;
            or a worker does not have the device.
    """
    with open_cluster(spec) as cluster:
        _require_scheduler_versions(cluster)
        print(_dashboard_line(cluster), flush=True)
        _wait_for_workers(cluster)
        found = _device_of_all(_facts(cluster, device))
        with _reporting(report):
            yield Workers(cluster, *found)


@contextmanager
def _reporting(report: str | None) -> Iterator[None]:
    """Save Dask's performance report of a `with` block, unless the block raises."""
    if report is None:
        yield
        return
    from distributed import performance_report

    recorder = performance_report(filename=str(Path(report).absolute()))
    recorder.__enter__()
    yield
    try:
        recorder.__exit__(None, None, None)
        print(f"{report}: Dask's performance report")
    except Exception as error:  # The store matters more than a page that bokeh fails to draw.
        print(f"{report} can't be saved: {type(error).__name__}: {error}", file=sys.stderr)


def _dashboard_line(cluster: OpenCluster) -> str:
    import importlib.util

    link = ""
    if importlib.util.find_spec("bokeh") is not None:
        try:
            link = cluster.client.dashboard_link or ""
        except (KeyError, ValueError):
            link = ""
    return f"dashboard of {cluster.name}: {link or 'none (it needs bokeh)'}"


def _wait_for_workers(cluster: OpenCluster) -> None:
    from logitbank.jobs.cluster.window import count_workers

    began, announced = time.monotonic(), False
    while not count_workers(cluster.client):
        waited = time.monotonic() - began
        if not cluster.may_wait and waited > SECONDS_UNTIL_WORKERS:
            raise LogitbankError(
                f"{cluster.name} has no workers, and none has started in "
                f"{SECONDS_UNTIL_WORKERS:.0f} s: start some by `dask worker ADDRESS --nthreads 1`"
            )
        if cluster.may_wait and not announced:
            line = f"waiting for the queue to start the first of {cluster.workers} workers"
            print(line, flush=True)
            announced = True
        time.sleep(SECONDS_BETWEEN_POLLS)


def _require_scheduler_versions(cluster: OpenCluster) -> None:
    wanted = {name: shared_versions()[name] for name in SCHEDULER_PACKAGES}
    try:
        found = cluster.client.run_on_scheduler(shared_versions)
    except Exception as error:  # An environment without our package may raise anything.
        raise _cannot_run("the scheduler", error) from error
    differences = version_differences(found, wanted)
    if differences:
        raise LogitbankError(
            f"the scheduler of {cluster.name} has different packages: {'; '.join(differences)}: "
            "install the same ones on both sides"
        )


def _facts(cluster: OpenCluster, device: str | None) -> dict[str, dict[str, str]]:
    """Return the versions and the device of every worker, by address."""
    from logitbank.jobs.cluster.worker import worker_facts

    try:
        found = cluster.client.run(worker_facts, device)
    except Exception as error:  # As for a scheduler.
        raise _cannot_run("a worker", error) from error
    if not found:
        raise LogitbankError(
            f"{cluster.name} lost its workers before they could start: run the same command again"
        )
    wanted = shared_versions()
    for address, facts in found.items():
        differences = version_differences(facts, wanted)
        if differences:
            raise LogitbankError(
                f"the worker {address} has different packages: {'; '.join(differences)}: install "
                "the same ones on both sides"
            )
        if "problem" in facts:
            raise LogitbankError(f"the worker {address} can't compute: {facts['problem']}")
    return found


def _device_of_all(found: dict[str, dict[str, str]]) -> tuple[str, str]:
    devices = {facts["device"] for facts in found.values()}
    if len(devices) > 1:
        raise LogitbankError(
            f"some workers have {' and some '.join(sorted(devices))}, whose logits differ in the "
            "last bits: choose one by --device"
        )
    names = sorted({facts["device_name"] for facts in found.values()})
    return devices.pop(), ", ".join(names)


def _cannot_run(who: str, error: Exception) -> LogitbankError:
    return LogitbankError(
        f"{who} can't run logitbank ({type(error).__name__}: {error}): install the same packages "
        "on both sides"
    )


def _result_of(future: Any, cluster: OpenCluster) -> Any:
    """Wait for the result of one Dask task, as long as there are workers."""
    from logitbank.jobs.cluster import window

    workers = window.WorkerCount(cluster.client, window.SECONDS_WITHOUT_WORKERS)
    # Not by short timeouts of `result`: one that ends as the result arrives leaves Dask without
    # either, and an UnboundLocalError.
    ended = threading.Event()
    future.add_done_callback(lambda done: ended.set())
    while True:
        while not ended.wait(SECONDS_BETWEEN_POLLS):
            workers.require()
        workers.require()
        try:
            return future.result(SECONDS_UNTIL_WORKERS)
        except TimeoutError:
            continue
        except Exception as error:
            raise LogitbankError(
                f"a worker can't start: {type(error).__name__}: {error}"
            ) from error
