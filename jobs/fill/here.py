"""Units computed by this process."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

from logitbank.jobs.progress import Progress
from logitbank.jobs.stopping import StopSignals
from logitbank.pipeline.store_task import OpenTask, StoreTask, compute_missing
from logitbank.stores.manifest import Manifest
from logitbank.stores.writer import StoreWriter


class Driver(Protocol):
    """Has a task's units computed by somebody."""

    def check(self) -> Manifest:
        """Have the task checked before the first unit is computed.

        Returns:
            The manifest of the store to be made, with what was found and what computes it.

        Raises:
            LogitbankError: as `OpenTask.check`, or nobody is there to compute.
        """

    def compute(self, writer: StoreWriter) -> None:
        """Have the units computed that a store, or a share of it, is missing.

        Raises:
            LogitbankError: a unit can't be computed.
        """


@dataclass(frozen=True)
class Here:
    """Computes in this process; a signal that asks for an end is heeded between units.

    `job` and `rows` are what the progress calls the job and the rows.
    """

    task: StoreTask
    opened: OpenTask
    stop: StopSignals
    job: str
    rows: str

    def check(self) -> Manifest:
        """Check the task here, as `Driver.check`."""
        return dataclasses.replace(self.task.manifest, measured=self.opened.check())

    def compute(self, writer: StoreWriter) -> None:
        """Compute here what is missing; less, where a signal asks for an end.

        Raises:
            LogitbankError: as `OpenTask.compute`.
            StopRequested: a signal came.
        """
        progress = Progress(self.job, self.rows)
        with self.stop.blocks_in_hand() as stopped:
            compute_missing(self.opened, writer, progress=progress, stop=stopped)
