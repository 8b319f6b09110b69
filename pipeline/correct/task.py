"""A correction's task: which raw store, corrected how, fills a corrected one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.correct.manifest import corrected_manifest, wrong_rows
from logitbank.pipeline.correct.stage import BATCH_ROWS, CorrectionStage
from logitbank.pipeline.provenance import shared_versions
from logitbank.pipeline.store_task import (
    Write,
    ignore_rows,
    never,
    require_device,
    require_same_work,
    require_versions,
)
from logitbank.stores.errors import StoreError
from logitbank.stores.importing import module_of_spec
from logitbank.stores.layout import Unit
from logitbank.stores.manifest import Manifest, Measured
from logitbank.stores.reader import Store
from logitbank.stores.units import UnitGroup, UnitWriter, WrittenUnit
from logitbank.stores.writer import StoreWriter

NEEDED_ARRAYS = ("logits", "top", "view_params", "pixel_crc")


@dataclass(frozen=True)
class CorrectionTask:
    """The units of a corrected store.

    `parent` is the raw store's whole path or URL, `manifest` the corrected store's, of
    `corrected_manifest`, and `versions` are those of the process that made the task. `here` is the
    raw store as it is open in that process, and stays in it.
    """

    parent: str
    correction: str
    manifest: Manifest
    store: str
    threads: int = 2
    device: str = "cpu"
    batch_rows: int = BATCH_ROWS
    versions: Mapping[str, str] = field(default_factory=shared_versions)
    here: Store | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        parent: Store,
        correction: str,
        store: str,
        *,
        location: str = "",
        threads: int = 2,
        device: str = "cpu",
        batch_rows: int = BATCH_ROWS,
    ) -> CorrectionTask:
        """Describe the task of a raw store that is open in this process.

        Args:
            parent: the raw store.
            correction: its name.
            store: where the corrected store lies or will lie.
            location: where other processes find the raw store, if any read it.
            threads: as `CorrectionStage`, where whoever opens the task doesn't say.
            device: as `CorrectionStage`.
            batch_rows: as `CorrectionStage`.

        Raises:
            UsageError: as `corrected_manifest`.
        """
        return cls(
            parent=location or parent.files.location,
            correction=correction,
            manifest=corrected_manifest(parent, correction),
            store=store,
            threads=threads,
            device=device,
            batch_rows=batch_rows,
            here=parent,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields that other processes get."""
        return self.__dict__ | {"here": None}

    @property
    def user_modules(self) -> tuple[str, ...]:
        """The module of the user's own that registers the correction."""
        return tuple(filter(None, [module_of_spec(self.correction)]))

    def on_device(self, device: str, name: str) -> CorrectionTask:
        """Return the task with the device that others compute it on; the bits are the same."""
        return dataclasses.replace(self, device=device)

    def open(self, threads: int | None = None) -> OpenCorrectionTask:
        """Open the raw store, unless this process made the task.

        Args:
            threads: how many units are corrected at a time; None for the task's own number.

        Raises:
            LogitbankError: it is not the one of the manifest, the device is not there, or packages
                have other versions.
        """
        parent = self.here
        if parent is None:
            require_versions(self.versions)
            require_device(self.device)
            parent = Store.open(self.parent)
            require_same_work(corrected_manifest(parent, self.correction), self.manifest)
        stage = CorrectionStage(
            parent,
            self.correction,
            threads=threads or self.threads,
            device=self.device,
            batch_rows=self.batch_rows,
        )
        return OpenCorrectionTask(self, stage)


class OpenCorrectionTask:
    """A `CorrectionTask` that a process has opened."""

    def __init__(self, task: CorrectionTask, stage: CorrectionStage) -> None:
        self._task, self._stage = task, stage

    @property
    def samples(self) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        """Return (N,) labels and (N,) ids, those of the raw store."""
        return self._stage.parent.target, self._stage.parent.sample_id

    def groups(self, units: Iterable[Unit]) -> list[UnitGroup]:
        """Return each unit as a group of its own."""
        return [(unit,) for unit in units]

    def check(self, units: Sequence[Unit]) -> Measured:
        """Check that the units can be corrected, before anything is written.

        Raises:
            StoreError: a chunk of the raw store is missing or of another size.
            UsageError: there is no such device, or it doesn't know the correction.
        """
        self._stage.parent.require_chunks(NEEDED_ARRAYS, {unit.view for unit in units})
        self._stage.require_device()
        return self._task.manifest.measured

    def is_checked(self, measured: Measured) -> bool:
        """Nothing is measured."""
        return True

    def require_begun(self, measured: Measured) -> None:
        """The manifest's identity says it all."""

    def require_samples(self, store: UnitWriter, units: Iterable[Unit]) -> None:
        """The parent's digest says it all."""

    def compute(
        self,
        groups: Iterable[UnitGroup],
        write: Write,
        *,
        progress: Callable[[int], None] = ignore_rows,
        stop: Callable[[], bool] = never,
    ) -> list[WrittenUnit]:
        """Correct groups of units, as `CorrectionStage.compute`."""
        units = [unit for group in groups for unit in group]
        return self._stage.compute(units, write, progress=progress, stop=stop)

    def seal(self, writer: StoreWriter) -> Manifest:
        """Seal the store.

        Raises:
            StoreError: as `StoreWriter.seal`, or a row is wrong after a correction that leaves none
                so.
        """
        sealed = writer.seal()
        wrong, rows = wrong_rows(sealed.measured)
        if wrong and not self._stage.correction.changes_values:
            raise StoreError(
                f"{writer.files.where}: {wrong} of {rows} rows are wrong after correction"
            )
        return sealed

    def close(self) -> None:
        """Nothing is left open."""
