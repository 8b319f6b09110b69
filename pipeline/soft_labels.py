"""Soft labels for a training loop: one store, a view an epoch, no teacher in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from logitbank.pipeline.draws import view_of_epoch
from logitbank.pipeline.views.stored import StoredViews
from logitbank.stores.manifest import Manifest
from logitbank.stores.reader import Store
from logitbank.stores.slab import Slab, SlabLoader


class SoftLabels:
    """The soft labels of a store, a slab at a time.

    >>> soft = SoftLabels.open("sort.zarr")  # doctest: +SKIP
    >>> slab = soft.epoch(0, seed=0, device="cuda")  # doctest: +SKIP
    >>> teacher_logits = slab[row]  # doctest: +SKIP
    """

    def __init__(self, store: Store, correction: str | None = None) -> None:
        self.store = store
        self.correction = correction
        self._loader = SlabLoader(store, correction)
        self._views = StoredViews.of(store)

    @classmethod
    def open(cls, location: str | Path, correction: str | None = None) -> SoftLabels:
        """Open a complete store: raw, corrected, or virtual and so corrected as it is read.

        Args:
            location: path or URL.
            correction: corrects a raw store's rows as they are read: `sort`, `swap`, or one of
                your own.

        Raises:
            StoreError: the store is missing, incomplete or damaged, or virtual without its parent.
            UsageError: an unknown correction, one asked of a corrected store, or one that changes
                values asked of codes.
        """
        return cls(Store.open(location), correction)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as the store's location, which is opened again."""
        return _reopened, (self._views, self.correction)

    @property
    def manifest(self) -> Manifest:
        """What the store says of itself."""
        return self.store.manifest

    @property
    def views(self) -> int:
        """V, the views of each sample."""
        return self.manifest.views

    @property
    def samples(self) -> int:
        """N, the samples of the split."""
        return self.manifest.dataset.samples

    @property
    def classes(self) -> int:
        """C, the classes of a row of logits."""
        return self.manifest.dataset.classes

    @property
    def augmentation(self) -> StoredViews:
        """The store's views, with their stored parameters and checksums: for `ViewDataset`."""
        return self._views

    def epoch(self, epoch: int, *, seed: int = 0, device: str | torch.device = "cpu") -> Slab:
        """Give the slab of the view that this epoch trains on; the next epoch's is read meanwhile.

        The view is pi(epoch mod V), pi a fresh permutation for each cycle, drawn from `seed`. A
        slab serves until the next epoch begins.

        Raises:
            StoreError: a chunk of the view is missing, damaged or belongs elsewhere.
        """
        view = view_of_epoch(epoch, self.views, seed)
        following = view_of_epoch(epoch + 1, self.views, seed)
        return self._loader.load(view, following, torch.device(device))


def _reopened(views: StoredViews, correction: str | None) -> SoftLabels:
    """Build them around views that were opened again, and found to be of the same store."""
    return SoftLabels(views.store, correction)
