"""The views of a store: what was drawn, and the checksums of the pixels the teacher saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from logitbank.pipeline.views.augmentations.mixed import Augmentation
from logitbank.pipeline.views.specs import augmentation_from
from logitbank.stores.errors import StoreError
from logitbank.stores.parent import OpenOptions
from logitbank.stores.reader import Store

_KEPT_VIEWS = 2


class StoredViews:
    """The views of a store.

    It pickles as the store's location and opens the store again where it is unpickled, as it was
    opened here, so it can be sent to workers. Whole views are read and the last two are kept: an
    epoch needs one.

    Args:
        location: a complete store's path or URL.

    Raises:
        StoreError: the store can't be opened, or is another one by the time a worker opens it.
        UsageError: an augmentation that this release doesn't know.
    """

    store: Store
    kind: Augmentation

    def __init__(self, location: str | Path) -> None:
        self._use(Store.open(location))

    @classmethod
    def of(cls, store: Store) -> StoredViews:
        """Return the views of a store that is open already."""
        views = cls.__new__(cls)
        views._use(store)
        return views

    def _use(self, store: Store) -> None:
        self.store = store
        identity = store.manifest.augmentation
        self.kind = augmentation_from(identity.name, identity.parameters)
        self._kept: dict[tuple[str, int], NDArray[Any]] = {}

    @property
    def seed(self) -> int:
        """The seed of the draws."""
        return self.store.manifest.augmentation.seed

    @property
    def views(self) -> int:
        """V, how many views of each sample there are."""
        return self.store.manifest.views

    @property
    def samples(self) -> int:
        """N, how many samples there are."""
        return self.store.manifest.dataset.samples

    @property
    def classes(self) -> int:
        """C, how many classes there are."""
        return self.store.manifest.dataset.classes

    @property
    def size(self) -> int:
        """The side of a view in pixels."""
        return self.kind.size

    @property
    def sample_ids(self) -> NDArray[np.uint64]:
        """The (N,) ids of the samples that were cached."""
        return self.store.sample_id

    @property
    def target(self) -> NDArray[np.int32]:
        """The (N,) ground truth of the samples that were cached."""
        return self.store.target

    @property
    def made_with(self) -> dict[str, str]:
        """The versions of the libraries that made the store, by name."""
        return self.store.manifest.provenance.versions

    def params(self, view: int, samples: ArrayLike) -> NDArray[Any]:
        """Return the (B, P) stored parameters of one view of some samples.

        Raises:
            ChunkError: they are missing or damaged.
        """
        return self._view("view_params", view)[np.asarray(samples)]

    def pixel_crc(self, view: int, samples: ArrayLike) -> NDArray[np.uint32]:
        """Return the (B,) stored checksums of one view of some samples; raises as `params`."""
        return self._view("pixel_crc", view)[np.asarray(samples)]

    def _view(self, name: str, view: int) -> NDArray[Any]:
        kept = self._kept.get((name, view))
        if kept is None:
            kept = self.store.read_view(name, view)
            # Another thread may do the same meanwhile: replacing the dict whole keeps it sound.
            recent = [item for item in self._kept.items() if item[0][0] == name]
            others = [item for item in self._kept.items() if item[0][0] != name]
            self._kept = dict([*others, *recent[1 - _KEPT_VIEWS :], ((name, view), kept)])
        return kept

    def __getstate__(self) -> tuple[str, str | None, OpenOptions]:
        return self.store.files.location, self.store.manifest.digest, self.store.options

    def __setstate__(self, state: tuple[str, str | None, OpenOptions]) -> None:
        location, digest, options = state
        self._use(Store.open(location, **vars(options)))
        if self.store.manifest.digest != digest:
            raise StoreError(
                f"{self.store.where} was replaced by another store while it was in use"
            )


def kind_of(views: StoredViews | Augmentation) -> Augmentation:
    """Return the augmentation that views are drawn by, whether a store holds them or not."""
    return views.kind if isinstance(views, StoredViews) else views
