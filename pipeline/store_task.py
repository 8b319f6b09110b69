"""Filling a store: a task opens what it needs and computes units; a driver decides who and when.

A task is a small picklable value: whoever opens it, in any process, computes the same bytes for a
unit, however often. It knows nothing about other processes, and a driver nothing about teachers or
corrections.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.provenance import shared_versions, version_differences
from logitbank.stores.errors import LogitbankError, StoreError
from logitbank.stores.layout import Unit
from logitbank.stores.manifest import Manifest, Measured, identity_differences
from logitbank.stores.units import UnitGroup, UnitValues, UnitWriter
from logitbank.stores.writer import StoreWriter, unit_rows

Write = Callable[[Unit, UnitValues], object]
"""Writes a computed unit; its arrays may be reused once it returns."""


def ignore_rows(rows: int) -> None:
    """Report no progress."""


def ignore_progress(done: int, total: int) -> None:
    """Report no progress."""


def never() -> bool:
    """Return False: don't stop."""
    return False


class OpenTask(Protocol):
    """A task with its model, datasets or stores open in this process."""

    @property
    def samples(self) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        """Return (N,) labels and (N,) ids, as the store holds them."""

    def groups(self, units: Iterable[Unit]) -> list[UnitGroup]:
        """Order units as they are best computed, and group those that are computed together."""

    def require_sources(self, units: Iterable[Unit]) -> None:
        """Check that the sources of some units exist, as seen from this process.

        Raises:
            StoreError: something is missing.
        """

    def check(self) -> Measured:
        """Measure what must be known before the first unit, on the machine that computes it.

        Returns:
            The measurements for the store's manifest.

        Raises:
            LogitbankError: units must not be computed.
        """

    def is_checked(self, measured: Measured) -> bool:
        """Return whether a manifest has what `check` measures."""

    def require_begun(self, measured: Measured) -> None:
        """Check that this process computes what the one that began the store computes.

        Raises:
            LogitbankError: it does not.
        """

    def require_samples(self, store: UnitWriter, units: Iterable[Unit]) -> None:
        """Check that units have the same samples here as in a store begun elsewhere.

        Raises:
            DatasetError: they do not.
        """

    def compute(
        self,
        groups: Iterable[UnitGroup],
        write: Write,
        *,
        progress: Callable[[int], None] = ignore_rows,
        stop: Callable[[], bool] = never,
    ) -> None:
        """Compute groups of units into named arrays and write each as it is done.

        Args:
            groups: from `groups`, or any others, each within a block.
            write: called with each unit and its arrays, from any thread.
            progress: called with the number of rows that have just been computed.
            stop: asked between units whether to leave out those that follow.

        Raises:
            LogitbankError: a unit can't be computed or written.
        """

    def seal(self, writer: StoreWriter) -> Manifest:
        """Seal the store once every unit is written, and check the whole of it.

        Raises:
            StoreError: as `StoreWriter.seal`, or the rows are wrong.
        """

    def close(self) -> None:
        """Stop its threads."""


class StoreTask(Protocol):
    """What any process needs to know to compute units of a store."""

    @property
    def store(self) -> str:
        """Where the store lies."""

    @property
    def manifest(self) -> Manifest:
        """The manifest of the empty store."""

    @property
    def user_modules(self) -> tuple[str, ...]:
        """The names of the user's own modules that it imports."""

    def open(self, threads: int | None = None) -> OpenTask:
        """Open its sources, to compute with this many threads; None for its default.

        Raises:
            LogitbankError: it opens something else here than where the task was made.
        """

    def on_device(self, device: str, name: str) -> StoreTask:
        """Return the task for the device that workers compute on, with its readable name."""


def compute_missing(
    opened: OpenTask,
    writer: StoreWriter,
    *,
    progress: Callable[[int, int], None] = ignore_progress,
    stop: Callable[[], bool] = never,
) -> None:
    """Compute in this process the units that a store, or a share of it, is missing.

    Args:
        opened: the task of the store.
        writer: the store's.
        progress: called with the rows computed in this run and their number.
        stop: asked between units whether to leave out those that follow.

    Raises:
        LogitbankError: as `OpenTask.compute`.
    """
    total, done = unit_rows(writer.missing, writer.manifest), 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        progress(done, total)

    groups = opened.groups(writer.missing)
    opened.compute(groups, writer.write_unit, progress=count, stop=stop)


def fill_store(task: StoreTask, progress: Callable[[int, int], None] = ignore_progress) -> Manifest:
    """Fill a task's store in this process alone, or resume it.

    Args:
        task: the task whose store is filled.
        progress: called with the rows computed in this run and their number.

    Returns:
        The sealed manifest.

    Raises:
        LogitbankError: as `StoreTask.open`, `OpenTask.compute` and `OpenTask.seal`.
    """
    with contextlib.closing(task.open()) as opened:
        writer = StoreWriter.open(task.store, task.manifest, *opened.samples)
        if writer.complete:
            return writer.manifest
        compute_missing(opened, writer, progress=progress)
        return opened.seal(writer)


def require_versions(wanted: Mapping[str, str]) -> None:
    """Check that this process has the packages of the one that made a task.

    Raises:
        LogitbankError: versions differ; each is named.
    """
    differences = version_differences(shared_versions(), wanted)
    if differences:
        raise LogitbankError(
            f"{platform.node()} has other package versions than the job: {'; '.join(differences)}: "
            "install the same in both places"
        )


def require_device(name: str) -> None:
    """Check that this process has the device that a task computes on.

    Raises:
        LogitbankError: it does not.
    """
    if name == "cpu":
        return
    from logitbank.pipeline.devices import usable_device

    try:
        usable_device(name)
    except LogitbankError as error:
        raise LogitbankError(f"a worker on {platform.node()} can't compute: {error}") from error


def require_same_work(found: Manifest, wanted: Manifest) -> None:
    """Check that a task opens here what it opened where it was made.

    Raises:
        StoreError: it does not; every difference is named.
    """
    differences = identity_differences(found, wanted, platform.node())
    if differences:
        raise StoreError(f"a worker opens other work: {'; '.join(differences)}")
