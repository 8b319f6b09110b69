"""Units computed by a cluster's workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property

from logitbank.jobs.cluster.running import TaskOnWorkers, open_workers
from logitbank.jobs.cluster.where import Where
from logitbank.jobs.progress import Progress
from logitbank.pipeline.store_task import OpenTask, StoreTask
from logitbank.stores.layout import Unit
from logitbank.stores.manifest import Manifest
from logitbank.stores.writer import StoreWriter


@contextmanager
def on_cluster(
    task: StoreTask,
    opened: OpenTask,
    job: str,
    where: Where,
    *,
    device: str | None = None,
    report: str | None = None,
) -> Iterator[OnCluster]:
    """Yield the driver that has a task computed by a cluster's workers.

    The cluster is opened when it is first needed: nobody queues for a store that is complete.

    Args:
        task: whose units.
        opened: the task, open in this process.
        job: what the progress calls the job.
        where: which cluster.
        device: as `open_workers`.
        report: as `open_workers`.
    """
    with ExitStack() as stack:
        yield OnCluster(task, opened, job, where, device, report, stack)


class OnCluster:
    """A cluster's workers; its arguments are those of `on_cluster`, and what closes the cluster."""

    def __init__(
        self,
        task: StoreTask,
        opened: OpenTask,
        job: str,
        where: Where,
        device: str | None,
        report: str | None,
        stack: ExitStack,
    ) -> None:
        self._task, self._opened, self._job = task, opened, job
        self._where, self._device, self._report = where, device, report
        self._stack = stack

    def check(self, units: Sequence[Unit]) -> Manifest:
        """Have one worker check the task.

        Raises:
            LogitbankError: as `open_workers` and `TaskOnWorkers.check`.
        """
        return self._workers.check(units)

    def compute(self, writer: StoreWriter) -> None:
        """Have the units computed that a store is missing, and close the cluster.

        Raises:
            LogitbankError: as `open_workers` and `TaskOnWorkers.compute`.
        """
        if writer.lacking:
            groups = self._opened.groups(writer.lacking)
            self._workers.compute(groups, writer, Progress(self._job, "chunk"))
        # Nobody needs the workers while the store is sealed.
        self._stack.close()

    @cached_property
    def _workers(self) -> TaskOnWorkers:
        workers = self._stack.enter_context(open_workers(self._where, self._device, self._report))
        return self._stack.enter_context(workers.task(self._task))
