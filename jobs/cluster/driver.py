"""Units computed by the workers of a cluster."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

from logitbank.jobs.cluster.running import TaskOnWorkers, open_workers
from logitbank.jobs.cluster.spec import ClusterSpec
from logitbank.jobs.command_line.progress import Progress
from logitbank.pipeline.store_task import OpenTask, StoreTask
from logitbank.stores.manifest import Manifest
from logitbank.stores.writer import StoreWriter


@dataclass(frozen=True)
class OnCluster:
    """Has a task's units computed by the workers of a cluster.

    The cluster is opened when it is first needed: a complete store starts no workers.

    Args:
        task: the task.
        opened: the task, open in this process.
        job: what the progress bar calls the job.
        cluster: the cluster to open.
        device: as `open_workers`.
        report: as `open_workers`.
        stack: closes the cluster.
    """

    task: StoreTask
    opened: OpenTask
    job: str
    cluster: ClusterSpec
    device: str | None
    report: str | None
    stack: ExitStack

    def check(self) -> Manifest:
        """Have a worker check the task.

        Raises:
            LogitbankError: as `open_workers` and `TaskOnWorkers.check`.
        """
        return self._workers.check()

    def compute(self, writer: StoreWriter) -> None:
        """Have the missing units of a store computed, and close the cluster.

        Raises:
            LogitbankError: as `open_workers` and `TaskOnWorkers.compute`.
        """
        if writer.missing:
            groups = self.opened.groups(writer.missing)
            self._workers.compute(groups, writer, Progress(self.job, "chunk"))
        # Sealing needs no workers.
        self.stack.close()

    @cached_property
    def _workers(self) -> TaskOnWorkers:
        workers = self.stack.enter_context(open_workers(self.cluster, self.device, self.report))
        return self.stack.enter_context(workers.task(self.task))
