"""Units computed by this process."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from logitbank.jobs.command_line.progress import Progress
from logitbank.jobs.command_line.stopping import StopSignals
from logitbank.pipeline.store_task import OpenTask, StoreTask, compute_missing
from logitbank.stores.manifest import Manifest
from logitbank.stores.writer import StoreWriter


@dataclass(frozen=True)
class InProcess:
    """Computes units in this process; stop signals are handled between units.

    `job` and `rows` are what the progress bar calls the job and the rows.
    """

    task: StoreTask
    opened: OpenTask
    stop: StopSignals
    job: str
    rows: str

    def check(self) -> Manifest:
        """Check the task in this process."""
        return dataclasses.replace(self.task.manifest, measured=self.opened.check())

    def compute(self, writer: StoreWriter) -> None:
        """Compute the missing units, until a signal asks to stop.

        Raises:
            LogitbankError: as `OpenTask.compute`.
            StopRequested: a signal came.
        """
        progress = Progress(self.job, self.rows)
        with self.stop.blocks_in_hand() as stopped:
            compute_missing(self.opened, writer, progress=progress, stop=stopped)
