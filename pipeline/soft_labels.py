"""Soft labels for a training loop: one store or two, a view per epoch, no teacher in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from logitbank.pipeline.devices import usable_device
from logitbank.pipeline.views.draws import Stream, view_of_epoch
from logitbank.pipeline.views.stored import StoredViews
from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.manifest import Manifest
from logitbank.stores.reader import Store
from logitbank.stores.slab import Slab, SlabLoader


class SoftLabels:
    """The soft labels of a store, a slab at a time.

    `order` selects the order of views: a student that learns from a weak and a strong store has one
    for each (see `open_pair`).

    >>> soft = SoftLabels.open("sort.zarr")  # doctest: +SKIP
    >>> slab = soft.epoch(0, seed=0, device="cuda")  # doctest: +SKIP
    >>> teacher_logits = slab[row]  # doctest: +SKIP
    """

    def __init__(
        self, store: Store, correction: str | None = None, order: Stream = Stream.VIEW_ORDER
    ) -> None:
        self.store = store
        self.correction = correction
        self.order = order
        self._as_read = store if correction is None else store.corrected_by(correction)
        self._loader = SlabLoader(self._as_read)
        self._views = StoredViews.of(store)

    @classmethod
    def open(
        cls,
        location: str | Path,
        correction: str | None = None,
        *,
        parent: str | Path | None = None,
        allow_corrections: Collection[str] = (),
    ) -> SoftLabels:
        """Open a complete store: raw, corrected, or virtual, which is corrected as it is read.

        Args:
            location: path or URL.
            correction: corrects a raw store's rows as they are read: `sort`, `swap`, or one of
                your own.
            parent: where a virtual store's parent is, if it has moved.
            allow_corrections: corrections of your own that a virtual store's manifest may import,
                as `import:MODULE:NAME`.

        Raises:
            StoreError: the store is missing, incomplete or damaged, or virtual without its parent
                or with a correction that would have to be imported.
            UsageError: an unknown correction, or one for a corrected store or for mixed views; or a
                parent for a store that isn't virtual.
        """
        store = Store.open(location, parent=parent, allow_corrections=allow_corrections)
        return cls(store, correction)

    @classmethod
    def open_pair(
        cls,
        weak: str | Path,
        strong: str | Path,
        correction: str | None = None,
        *,
        parents: Sequence[str | Path | None] = (None, None),
        allow_corrections: Collection[str] = (),
    ) -> tuple[SoftLabels, SoftLabels]:
        """Open two stores of one teacher: of weak and of strong views of the same images.

        An epoch trains on one view of each; each has its own order of views. `parents` are those of
        virtual stores that have moved, None to look for one.

        >>> weak, strong = SoftLabels.open_pair("w.zarr", "s.zarr")  # doctest: +SKIP
        >>> slabs = weak.epoch(0, seed=0), strong.epoch(0, seed=0)  # doctest: +SKIP

        Raises:
            StoreError: as `open`; or they differ in more than their views; every difference is
                named.
            UsageError: as `open`; or the same store twice, the strong one first, or mixed views.
        """
        opened = [
            cls.open(location, correction, parent=parent, allow_corrections=allow_corrections)
            for location, parent in zip((weak, strong), parents, strict=True)
        ]
        return paired(*opened)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as the store's location, which is opened again."""
        return _reopened, (self._views, self.correction, self.order)

    @property
    def manifest(self) -> Manifest:
        """The store's manifest."""
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
    def corrected_by(self) -> str | None:
        """The correction of its logits, the store's or the one on reading; None for raw ones."""
        made = self.manifest.correction
        return self.correction if made is None else made.name

    @property
    def augmentation(self) -> StoredViews:
        """The store's views, with their stored parameters and checksums: for `ViewDataset`."""
        return self._views

    def view(self, epoch: int, *, seed: int = 0) -> int:
        """Return the view that an epoch trains on: pi(epoch mod V), a fresh pi for each cycle."""
        return view_of_epoch(epoch, self.views, seed, self.order)

    def corrected(self, correction: str) -> SoftLabels:
        """Return the same soft labels of a raw store, its rows corrected as they are read.

        Raises:
            UsageError: as `open`.
        """
        return type(self)(self.store, correction, self.order)

    def require_epochs(
        self,
        epochs: Iterable[int],
        *,
        seed: int = 0,
        arrays: Iterable[str] | None = None,
    ) -> int:
        """Check that every chunk that these epochs will read exists in full, before the first.

        Chunks are looked up, not read: their bytes are checked when their epoch reads them.

        Args:
            epochs: from 0, as `epoch` takes them.
            seed: the student's.
            arrays: the arrays that are read of a view; None for the rows of logits, the parameters
                and the pixels' checksums.

        Returns:
            The number of chunks.

        Raises:
            StoreError: a chunk is missing or of another size; the first is named, the others are
                counted.
        """
        views = {self.view(epoch, seed=seed) for epoch in epochs}
        if arrays is None:
            arrays = (*self.store.row_arrays, "view_params", "pixel_crc")
        return self._as_read.require_chunks(arrays, views)

    def epoch(self, epoch: int, *, seed: int = 0, device: str | torch.device = "cpu") -> Slab:
        """Return the slab of the view that this epoch trains on; the next epoch's is prefetched.

        The view is pi(epoch mod V), pi a fresh permutation for each cycle, drawn from `seed`. A
        slab is valid until the next epoch begins. Any thread may call this, and so may a forked
        process, which then reads for itself; the slabs of one epoch on several devices are valid
        together.

        Raises:
            StoreError: a chunk of the view is missing, damaged or belongs elsewhere. It is read
                again when the epoch is requested again.
            UsageError: torch knows no such device, or the machine has none.
        """
        view, following = self.view(epoch, seed=seed), self.view(epoch + 1, seed=seed)
        return self._loader.load(view, following, usable_device(device))


def paired(weak: SoftLabels, strong: SoftLabels) -> tuple[SoftLabels, SoftLabels]:
    """Pair the soft labels of weak and of strong views, the strong ones in an order of their own.

    Raises:
        StoreError: they differ in teacher, dataset, sample order, size of the views or correction.
        UsageError: the same store or augmentation twice, the strong one first, or one of mixed
            views.
    """
    for soft in (weak, strong):
        if soft.manifest.augmentation.is_mixed:
            raise UsageError(f"{soft.store.where} can't be one of two: {why_unpaired(soft)}")
    names = [each.manifest.augmentation.name for each in (weak, strong)]
    if weak.manifest.digest == strong.manifest.digest:
        raise UsageError(
            f"{weak.store.where} and {strong.store.where} are the same store: give one of weak "
            "views, then one of strong views"
        )
    if names[0].endswith("-strong") and not names[1].endswith("-strong"):
        raise UsageError(
            f"{weak.store.where} holds {names[0]} views, {strong.store.where} {names[1]}: give the "
            "weak store first"
        )
    of_weak, of_strong = _shared(weak), _shared(strong)
    different = [
        f"{name} is {of_weak.get(name)} there, {of_strong.get(name)} here"
        for name in {**of_weak, **of_strong}
        if of_weak.get(name) != of_strong.get(name)
    ]
    if different:
        raise StoreError(
            f"{weak.store.where} (there) and {strong.store.where} (here) can't teach together: "
            f"{'; '.join(different)}"
        )
    parameters = [each.manifest.augmentation.parameters for each in (weak, strong)]
    if names[0] == names[1] and parameters[0] == parameters[1]:
        raise UsageError(
            f"{weak.store.where} and {strong.store.where} both hold {names[0]} views: give one "
            "store of weak views, then one of strong views"
        )
    if strong.order != Stream.STRONG_VIEW_ORDER:
        strong = type(strong)(strong.store, strong.correction, Stream.STRONG_VIEW_ORDER)
    return weak, strong


def why_unpaired(soft: SoftLabels) -> str:
    """Return why mixed views can't be half of a pair, and what to do."""
    return (
        f"its views are {soft.manifest.augmentation.name}, each mixed with another image, and the "
        "second view of an image would be mixed with yet another: take stores without MixUp and "
        "CutMix, or a loss that learns from one view, such as kd"
    )


def _shared(soft: SoftLabels) -> Mapping[str, Any]:
    """Return what two stores must share for a student to learn from both, flattened.

    The dataset's fingerprint is over ids and targets in their order.
    """
    manifest, made = soft.manifest, soft.manifest.correction
    return {
        **{f"dataset.{name}": value for name, value in vars(manifest.dataset).items()},
        **{f"teacher.{name}": value for name, value in vars(manifest.teacher).items()},
        "augmentation.size": manifest.augmentation.size,
        "correction": soft.corrected_by,
        "correction.temperature": None if made is None else made.temperature,
    }


def _reopened(views: StoredViews, correction: str | None, order: Stream) -> SoftLabels:
    """Return soft labels of views that were opened again, and are known to be of the same store."""
    return SoftLabels(views.store, correction, order)
