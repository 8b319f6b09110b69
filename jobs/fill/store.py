"""Making a store: look at what is there, have what is missing computed, and seal it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Protocol

from logitbank.jobs.command_line.plan import store_plan
from logitbank.jobs.command_line.stopping import StopSignals
from logitbank.jobs.fill.here import Here
from logitbank.jobs.fill.parts import Part, seal_when_whole
from logitbank.jobs.fill.sharing import Sharing
from logitbank.pipeline.store_task import OpenTask, StoreTask
from logitbank.stores.files import open_files
from logitbank.stores.layout import Unit, all_units
from logitbank.stores.manifest import Manifest, Measured
from logitbank.stores.writer import StoreWriter, unit_rows


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
class Filled:
    """A store that was sealed in this run, and the rows that were computed for it in this run."""

    manifest: Manifest
    rows: int


def accept_all(measured: Measured) -> None:
    """Refuse nothing."""


def make_store(
    task: StoreTask,
    sharing: Sharing,
    stop: StopSignals,
    *,
    job: str,
    rows: str,
    cluster_device: str | None = None,
    on_checked: Callable[[Measured], None] = accept_all,
) -> Filled | None:
    """Make a task's store, or a part of it, by whoever is to compute.

    Args:
        task: whose store, as this process has made it.
        sharing: who computes.
        stop: the signals that ask for an end.
        job: what the progress calls the job.
        rows: what it calls the rows.
        cluster_device: what a cluster's workers compute on, None where they are to tell.
        on_checked: called with what was found before the first unit is computed; it may refuse.

    Returns:
        The sealed store; None where there was nothing to do, or other parts are not done yet.

    Raises:
        LogitbankError: a unit can't be computed, or the store not be written or sealed.
        StopRequested: a signal came.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(closing(task.open()))
        driver: Driver = Here(task, opened, stop, job, rows)
        if sharing.cluster is not None:
            from logitbank.jobs.cluster.driver import OnCluster

            where, report = sharing.cluster, sharing.report
            driver = OnCluster(task, opened, job, where, cluster_device, report, stack)
        return _Run(task, opened, driver, sharing.part, on_checked).fill()


def planned_lines(task: StoreTask, part: Part | None) -> list[str]:
    """Describe what making a task's store, or a part of it, will take.

    Raises:
        StoreError: another store lies there.
    """
    with closing(task.open()) as opened:
        share = None if part is None else _share(part, opened, task.manifest)
    return store_plan(task.store, task.manifest, share)


@dataclass(frozen=True)
class _Run:
    """What `make_store` works with."""

    task: StoreTask
    opened: OpenTask
    driver: Driver
    part: Part | None
    on_checked: Callable[[Measured], None]

    def fill(self) -> Filled | None:
        """Compute what is missing, and seal the store once every part has done its share."""
        out, wanted = self.task.store, self.task.manifest
        share = None if self.part is None else _share(self.part, self.opened, wanted)
        if open_files(out).is_free():
            wanted = self._checked(all_units(wanted) if share is None else share)

        def open_writer(share: list[Unit] | None = None) -> StoreWriter:
            return StoreWriter.open(out, wanted, *self.opened.samples, share)

        writer = open_writer(share)
        self.opened.require_begun(writer.manifest.measured)
        if writer.complete:
            whose = "" if self.part is None else f" of part {self.part}"
            print(f"{out} is complete: every chunk{whose} was checked, nothing is missing")
            return None
        for key in writer.mended:
            print(f"{out}: {key} was bad or stale; mending it")
        rows = unit_rows(writer.missing, wanted)
        if self.part is None:
            return Filled(self._complete(writer), rows)
        self.driver.compute(writer)
        sealed = seal_when_whole(out, wanted, self.part, open_writer, self._complete)
        return None if sealed is None else Filled(sealed, rows)

    def _complete(self, writer: StoreWriter) -> Manifest:
        """Have all computed that is missing in a whole store, and seal it."""
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
    """Return the units of a part, a run of those of the whole store as they are best computed."""
    return part.share([unit for group in opened.groups(all_units(manifest)) for unit in group])
