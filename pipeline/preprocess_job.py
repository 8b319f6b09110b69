"""The preprocessing stage as tasks: what a process needs to correct units of a raw store."""

from __future__ import annotations

import platform
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from logitbank.pipeline.preprocess import BATCH_ROWS, CorrectionStage, corrected_manifest
from logitbank.pipeline.provenance import shared_versions
from logitbank.pipeline.tasks import attached_writer, require_device, require_versions
from logitbank.stores.errors import StoreError
from logitbank.stores.importing import module_of_spec
from logitbank.stores.manifest import Manifest, identity_differences
from logitbank.stores.reader import Store
from logitbank.stores.units import RemoteUnitWriter, UnitGroup, WrittenUnit


@dataclass(frozen=True)
class CorrectionJob:
    """The units of a corrected store; paths are whole, `manifest` is of `corrected_manifest`."""

    parent: str
    correction: str
    manifest: Manifest
    store: str
    device: str = "cpu"
    batch_rows: int = BATCH_ROWS
    versions: Mapping[str, str] = field(default_factory=shared_versions)

    @property
    def user_modules(self) -> tuple[str, ...]:
        """The module of the user's own that registers the correction."""
        return tuple(filter(None, [module_of_spec(self.correction)]))

    def open(self, threads: int) -> OpenCorrectionJob:
        """Open the raw store; as many units as there are threads are corrected at a time.

        Raises:
            LogitbankError: it is not the one of the manifest, the device is not there, or packages
                have other versions.
        """
        require_versions(self.versions)
        require_device(self.device)
        parent = Store.open(self.parent)
        found = corrected_manifest(parent, self.correction)
        differences = identity_differences(found, self.manifest, platform.node())
        if differences:
            raise StoreError(f"a worker opens other work: {'; '.join(differences)}")
        stage = CorrectionStage(
            parent,
            self.correction,
            threads=threads,
            device=self.device,
            batch_rows=self.batch_rows,
        )
        return OpenCorrectionJob(self, stage)


class OpenCorrectionJob:
    """A `CorrectionJob` that a process has opened."""

    def __init__(self, job: CorrectionJob, stage: CorrectionStage) -> None:
        self._job, self._stage = job, stage
        self._lock = threading.Lock()
        self._writers: dict[str, RemoteUnitWriter] = {}

    def compute(self, groups: Sequence[UnitGroup], created: str) -> list[WrittenUnit]:
        """Correct groups of units.

        Raises:
            StoreError: as `CorrectionStage.compute`, or the store is not there.
        """
        with self._lock:
            if created not in self._writers:
                job = self._job
                self._writers[created] = attached_writer(job.store, job.manifest, created)
            units = [unit for group in groups for unit in group]
            return self._stage.compute(units, self._writers[created])

    def close(self) -> None:
        """Nothing is left open."""
