"""A correction's task: which raw store, corrected by what, fills a corrected one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from logitbank.pipeline.correct.manifest import corrected_manifest
from logitbank.pipeline.correct.stage import BATCH_ROWS, CorrectionStage
from logitbank.pipeline.provenance import shared_versions
from logitbank.pipeline.store_task import require_device, require_same_work, require_versions
from logitbank.stores.importing import module_of_spec
from logitbank.stores.manifest import Manifest
from logitbank.stores.reader import Store


@dataclass(frozen=True)
class CorrectionTask:
    """The units of a corrected store.

    `parent` is the raw store's absolute path or URL, `manifest` the corrected store's, from
    `corrected_manifest`, and `versions` are those of the process that made the task. `here` is the
    raw store as opened in that process; it is not pickled.
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
            threads: how many units are read, corrected and written at a time, unless `open` is
                given another number.
            device: `cpu`, or a CUDA device that corrects wrong rows while others are read and
                written; the result is the same, bit for bit.
            batch_rows: rows that are sent to a CUDA device at a time.

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
        """Return the fields to pickle, without `here`."""
        return self.__dict__ | {"here": None}

    @property
    def user_modules(self) -> tuple[str, ...]:
        """The user's own module that registers the correction."""
        return tuple(filter(None, [module_of_spec(self.correction)]))

    def on_device(self, device: str, name: str) -> CorrectionTask:
        """Return the task for the device that workers compute on; the bits are the same."""
        return dataclasses.replace(self, device=device)

    def open(self, threads: int | None = None) -> CorrectionStage:
        """Open the raw store, unless this process made the task.

        Args:
            threads: how many units are corrected at a time; None for the task's own number.

        Raises:
            LogitbankError: the raw store is not the one in the manifest, the device does not exist,
                or package versions differ.
        """
        parent = self.here
        if parent is None:
            require_versions(self.versions)
            require_device(self.device)
            parent = Store.open(self.parent)
            require_same_work(corrected_manifest(parent, self.correction), self.manifest)
        return CorrectionStage(self, parent, threads or self.threads)
