"""Comparing the samples of this process with those of a store begun elsewhere."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.datasets.folders import FolderDataset
from logitbank.pipeline.views import Augmentation, Mixed
from logitbank.stores.errors import DatasetError
from logitbank.stores.layout import Unit, block_bounds
from logitbank.stores.units import UnitWriter


@dataclass(frozen=True)
class StoredSamples:
    """The samples of a store, each compared when the first unit shows it."""

    store: UnitWriter
    _checked_blocks: set[int] = field(default_factory=set)

    def require(
        self, dataset: ImageDataset, augmentation: Augmentation, units: Iterable[Unit]
    ) -> None:
        """Check that the samples that units show are the store's.

        Raises:
            DatasetError: another label, or another file.
            StoreError: the store's own samples can't be read.
        """
        manifest = self.store.manifest
        for unit in units:
            rows = np.arange(*block_bounds(manifest, unit.block))
            if unit.block not in self._checked_blocks:
                self._require(dataset, rows)
                self._checked_blocks.add(unit.block)
            if isinstance(augmentation, Mixed):
                seed = manifest.augmentation.seed
                partners, _ = augmentation.draw_mix(seed, rows, unit.view)
                self._require(dataset, np.unique(partners))

    def _require(self, dataset: ImageDataset, rows: NDArray[np.int64]) -> None:
        target, sample_id = self.store.samples
        wrong = dataset.targets[rows] != target[rows]
        if isinstance(dataset, FolderDataset):
            wrong |= dataset.ids_of(rows) != sample_id[rows]
        if wrong.any():
            sample = int(rows[wrong.argmax()])
            raise DatasetError(
                f"{dataset.where(sample)} on {platform.node()} is not sample {sample} of the "
                "store being made: every worker must see the same files"
            )
