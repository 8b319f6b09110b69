"""Units computed by a cluster's workers."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

from logitbank.jobs.cluster.running import TaskOnWorkers, open_workers
from logitbank.jobs.cluster.where import Where
from logitbank.jobs.command_line.progress import Progress
from logitbank.pipeline.store_task import OpenTask, StoreTask
from logitbank.stores.manifest import Manifest
from logitbank.stores.writer import StoreWriter


@dataclass(frozen=True)
class OnCluster:
    """Has a task's units computed by a cluster's workers.

    The cluster is opened when it is first needed: nobody queues for a store that is complete.

    Args:
        task: whose units.
        opened: the task, open in this process.
        job: what the progress calls the job.
        where: which cluster.
        device: as `open_workers`.
        report: as `open_workers`.
        stack: closes what is opened.
    """

    task: StoreTask
    opened: OpenTask
    job: str
    where: Where
    device: str | None
    report: str | None
    stack: ExitStack

    def check(self) -> Manifest:
        """Have one worker check the task.

        Raises:
            LogitbankError: as `open_workers` and `TaskOnWorkers.check`.
        """
        return self._workers.check()

    def compute(self, writer: StoreWriter) -> None:
        """Have the units computed that a store is missing, and close the cluster.

        Raises:
            LogitbankError: as `open_workers` and `TaskOnWorkers.compute`.
        """
        if writer.missing:
            groups = self.opened.groups(writer.missing)
            self._workers.compute(groups, writer, Progress(self.job, "chunk"))
        # Nobody needs the workers while the store is sealed.
        self.stack.close()

    @cached_property
    def _workers(self) -> TaskOnWorkers:
        workers = self.stack.enter_context(open_workers(self.where, self.device, self.report))
        return self.stack.enter_context(workers.task(self.task))
