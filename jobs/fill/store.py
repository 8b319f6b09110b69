"""Making a store: check what exists, have the missing units computed, and seal it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Protocol

from logitbank.jobs.command_line.plan import require_room, store_bytes, store_plan
from logitbank.jobs.command_line.stopping import StopSignals
from logitbank.jobs.fill.in_process import InProcess
from logitbank.jobs.fill.parts import Part, seal_when_whole
from logitbank.jobs.fill.sharing import Sharing
from logitbank.pipeline.store_task import OpenTask, StoreTask
from logitbank.stores.files import Files
from logitbank.stores.layout import Unit, all_units
from logitbank.stores.manifest import Manifest, Measured
from logitbank.stores.writer import StoreWriter, unit_rows


class Driver(Protocol):
    """Has the units of a task computed: in this process or elsewhere."""

    def check(self) -> Manifest:
        """Have the task checked before the first unit is computed.

        Returns:
            The manifest of the store to be made, with what was measured and what computes it.

        Raises:
            LogitbankError: as `OpenTask.check`, or there is nothing to compute on.
        """

    def compute(self, writer: StoreWriter) -> None:
        """Have the missing units of a store, or of a share of it, computed.

        Raises:
            LogitbankError: a unit can't be computed.
        """


@dataclass(frozen=True)
class Filled:
    """A store sealed in this run, and the number of rows computed for it in this run."""

    manifest: Manifest
    rows: int


def accept_all(measured: Measured) -> None:
    """Accept any measurement."""


def make_store(
    task: StoreTask,
    files: Files,
    sharing: Sharing,
    stop: StopSignals,
    *,
    job: str,
    rows: str,
    cluster_device: str | None = None,
    on_checked: Callable[[Measured], None] = accept_all,
) -> Filled | None:
    """Make a task's store, or a part of it.

    Args:
        task: whose units the store holds.
        files: where the store lies or will lie.
        sharing: who computes.
        stop: the stop signals.
        job: what the progress bar calls the job.
        rows: what it calls the rows.
        cluster_device: the device of a cluster's workers; None to let them choose.
        on_checked: called with the measurements before the first unit is computed; it may raise.

    Returns:
        The sealed store; None if nothing was missing, or if other parts are not done yet.

    Raises:
        LogitbankError: a unit can't be computed, or the store can't be written or sealed; there is
            too little room for it.
        StopRequested: a signal came.
    """
    require_room(files, store_bytes(task.manifest))
    with ExitStack() as stack:
        opened = stack.enter_context(closing(task.open()))
        driver: Driver = InProcess(task, opened, stop, job, rows)
        if sharing.cluster is not None:
            from logitbank.jobs.cluster.driver import OnCluster

            driver = OnCluster(
                task, opened, job, sharing.cluster, cluster_device, sharing.report, stack
            )
        return _Run(task.manifest, opened, files, driver, sharing.part, on_checked).fill()


def planned_lines(task: StoreTask, files: Files, part: Part | None) -> list[str]:
    """Return lines that describe what making a task's store, or a part of it, will take.

    Raises:
        StoreError: the place holds a different store.
    """
    with closing(task.open()) as opened:
        share = None if part is None else _share(part, opened, task.manifest)
    return store_plan(files, task.manifest, share)


@dataclass(frozen=True)
class _Run:
    """The state of `make_store`."""

    wanted: Manifest
    opened: OpenTask
    files: Files
    driver: Driver
    part: Part | None
    on_checked: Callable[[Measured], None]

    def fill(self) -> Filled | None:
        """Compute the missing units, and seal the store once every part has done its share."""
        files, wanted = self.files, self.wanted
        share = None if self.part is None else _share(self.part, self.opened, wanted)
        if files.is_free():
            wanted = self._checked(all_units(wanted) if share is None else share)

        def open_writer(share: list[Unit] | None = None) -> StoreWriter:
            return StoreWriter.open(files, wanted, *self.opened.samples, share)

        writer = open_writer(share)
        self.opened.require_begun(writer.manifest.measured)
        if writer.complete:
            of_part = "" if self.part is None else f" of part {self.part}"
            print(
                f"{files.where} is complete: every chunk{of_part} was checked, nothing is missing"
            )
            return None
        for key in writer.mended:
            print(f"{files.where}: {key} was bad or stale; mending it")
        rows = unit_rows(writer.missing, wanted)
        if self.part is None:
            return Filled(self._complete(writer), rows)
        self.driver.compute(writer)
        sealed = seal_when_whole(files, wanted, self.part, open_writer, self._complete)
        return None if sealed is None else Filled(sealed, rows)

    def _complete(self, writer: StoreWriter) -> Manifest:
        """Have every missing unit of a whole store computed, and seal it."""
        if not self.opened.is_checked(writer.manifest.measured):
            writer.record(self._checked(all_units(writer.manifest)).measured)
        self.driver.compute(writer)
        return self.opened.seal(writer)

    def _checked(self, units: list[Unit]) -> Manifest:
        self.opened.require_sources(units)
        found = self.driver.check()
        self.on_checked(found.measured)
        return found


def _share(part: Part, opened: OpenTask, manifest: Manifest) -> list[Unit]:
    """Return the units of a part: a run of all units in the order in which they are computed."""
    return part.share([unit for group in opened.groups(all_units(manifest)) for unit in group])
