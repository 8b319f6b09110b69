"""A dataset of views for a user's own training loop, and the sampler that chooses its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset, Sampler

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.datasets.imported import MapStyleDataset, as_image_dataset
from logitbank.pipeline.views.augmentations.mixed import Augmentation, partners_of
from logitbank.pipeline.views.draws import epoch_order, view_of_epoch
from logitbank.pipeline.views.mismatch import explain_mismatch, mismatches
from logitbank.pipeline.views.rendering.renderer import ViewRenderer, pixel_crc
from logitbank.pipeline.views.stored import StoredViews, kind_of
from logitbank.pipeline.views.targets import Labels, ViewTargets
from logitbank.stores.errors import DatasetError, PixelError, unknown_name

_VERIFY = ("all", "sample", "off")
_SAMPLED_ONE_IN = 64

Item = tuple[Any, int | torch.Tensor, int]
"""A view, its target (a class, or for a mixed view the weight of each class), and its row."""


class ViewDataset(Dataset[Item]):
    """The views of a store (or of an augmentation) as a map-style dataset.

    `data[row]` is (image, target, row), where row = view * N + sample carries both identities: the
    slab of an epoch gives its `rows`, any sampler orders them, and the slab refuses rows of another
    view. It keeps no epoch of its own, so persistent workers can't serve a stale one; it can be
    pickled, so workers may be spawned. Threads may share it if they may share the wrapped dataset.

    Each image is rendered from the stored parameters alone and its checksum compared with that of
    the pixels the teacher saw, before it is handed out. The target of a view that is mixed of two
    images is (C,) float32, the weight of each class, as `F.cross_entropy` takes it.

    Args:
        dataset: an `ImageDataset`, or any map-style dataset whose items are (image, target, ...),
            an image being a Pillow image or (H, W, 3) uint8; it must have no transform of its own.
        views: a store's views (`SoftLabels.augmentation`), or an augmentation, whose views are then
            drawn from `seed` and have no checksums.
        transform: called with each view as a Pillow RGB image, as torchvision's and timm's
            transforms take it. Without one, an image is an (S, S, 3) uint8 tensor, which
            `normalise` takes by the batch. It is an attribute as well, as in torchvision's and
            timm's datasets: timm's create_loader sets it.
        verify_pixels: `all` views, `sample` (one in 64, others in each view) or `off`.
        seed: of the draws, for an augmentation alone.

    Raises:
        DatasetError: the store holds another number of samples, or images don't fit the views.
        UsageError: an unknown `verify_pixels`.
    """

    def __init__(
        self,
        dataset: Any,
        views: StoredViews | Augmentation,
        transform: Callable[[Image.Image], Any] | None = None,
        *,
        verify_pixels: Literal["all", "sample", "off"] = "all",
        seed: int = 0,
    ) -> None:
        if verify_pixels not in _VERIFY:
            raise unknown_name("verify_pixels", verify_pixels, _VERIFY)
        self._images = as_image_dataset(dataset)
        self._stored = views if isinstance(views, StoredViews) else None
        augmentation = kind_of(views)
        if self._stored is not None and self._stored.samples != len(self._images):
            raise DatasetError(
                f"the store holds {self._stored.samples} samples, the dataset {len(self._images)}: "
                "it isn't the split that was cached, or is cut differently"
            )
        self._renderer = ViewRenderer(self._images, augmentation)
        self.transform = transform
        self._verify_pixels = verify_pixels
        self._seed = seed

    def __len__(self) -> int:
        """Return the number of rows of all views; raise TypeError if views are unlimited."""
        views = self._views
        if views is None:
            raise TypeError(f"{self._renderer.augmentation.name} has no end of views")
        return views * len(self._images)

    def __getitem__(self, row: int) -> Item:
        """Return one view.

        Raises:
            IndexError: there is no such row.
            PixelError: its pixels are not those the teacher saw; it names the likely cause.
            DatasetError: the image can't be read, or its target is not the cached one.
            StoreError: what is stored of the view is missing or damaged.
        """
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Item]:
        """Return a batch of views; DataLoader calls this one. Raises as `__getitem__`."""
        numbers = np.array([int(row) for row in rows], np.int64)
        self._require_rows(numbers)
        views, samples = np.divmod(numbers, len(self._images))
        items: dict[int, Item] = {}
        for view in np.unique(views):
            places = np.flatnonzero(views == view)
            pixels, targets = self._checked(int(view), samples[places])
            for place, image, target in zip(places.tolist(), pixels, targets, strict=True):
                items[place] = self._transformed(image), target, int(numbers[place])
        return [items[place] for place in range(len(numbers))]

    @property
    def _views(self) -> int | None:
        return self._renderer.augmentation.count if self._stored is None else self._stored.views

    def _require_rows(self, rows: NDArray[np.int64]) -> None:
        is_wrong = rows < 0
        if self._views is not None:
            is_wrong |= rows >= self._views * len(self._images)
        if is_wrong.any():
            raise IndexError(
                f"row {rows[is_wrong][0]}: there are {self._views or 'any number of'} views of "
                f"{len(self._images)} samples, numbered from 0"
            )

    def _transformed(self, pixels: torch.Tensor) -> Any:
        if self.transform is None:
            return pixels
        return self.transform(Image.fromarray(pixels.numpy()))

    def _checked(
        self, view: int, samples: NDArray[np.int64]
    ) -> tuple[torch.Tensor, list[int | torch.Tensor]]:
        """Render one view of some samples, and compare pixels and labels with the cached ones."""
        loaded = _Loaded.of(self._images)
        renderer = self._renderer
        if loaded is not None:
            renderer = ViewRenderer(loaded, self._renderer.augmentation)
        pixels, params = self._rendered(renderer, view, samples)
        partners = partners_of(renderer.augmentation, params)
        shown = samples if partners is None else np.concatenate([samples, partners])
        labels = self._images.targets.__getitem__ if loaded is None else loaded.labels
        self._require_labels(shown, labels)
        return pixels, self._targets(labels, samples, params)

    def _rendered(
        self, renderer: ViewRenderer, view: int, samples: NDArray[np.int64]
    ) -> tuple[torch.Tensor, NDArray[Any]]:
        """Return (B, S, S, 3) pixels, compared with the cached ones, and (B, P) parameters."""
        if self._stored is None:
            return renderer.draw(self._seed, view, samples)
        params = self._stored.params(view, samples)
        try:
            pixels = renderer.render(samples, params)
        except PixelError:  # Parameters that can't be of these images.
            wrong = mismatches(self._renderer, self._stored, view, samples)
            if not len(wrong):
                raise
        else:
            wrong = self._wrong(pixels, view, samples)
        if len(wrong):
            raise PixelError(explain_mismatch(self._renderer, self._stored, view, int(wrong[0])))
        return pixels, params

    def _targets(
        self, labels: Labels, samples: NDArray[np.int64], params: NDArray[Any]
    ) -> list[int | torch.Tensor]:
        classes = len(self._images.classes) if self._stored is None else self._stored.classes
        augmentation = self._renderer.augmentation
        targets = ViewTargets.of(augmentation, labels, samples, params, classes)
        found = targets[torch.arange(len(samples))]
        return list(found) if found.is_floating_point() else found.tolist()

    def _wrong(
        self, pixels: torch.Tensor, view: int, samples: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return those of the samples that are to be verified and have other pixels."""
        if self._stored is None or self._verify_pixels == "off":
            return samples[:0]
        if self._verify_pixels == "sample":
            chosen = (samples + view) % _SAMPLED_ONE_IN == 0
            pixels, samples = pixels[torch.from_numpy(chosen)], samples[chosen]
        return samples[pixel_crc(pixels) != self._stored.pixel_crc(view, samples)]

    def _require_labels(self, samples: NDArray[np.int64], labels: Labels) -> None:
        """Check that labels are the cached ones: a row is corrected for its own label."""
        found = labels(samples)
        cached = self._stored.target[samples] if self._stored is not None else found
        wrong = np.flatnonzero(cached != found)
        if len(wrong):
            first = wrong[0]
            raise DatasetError(
                f"{self._images.where(int(samples[first]))}: its target is {found[first]}, but "
                f"{cached[first]} when it was cached: the classes are numbered differently"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class _Loaded(MapStyleDataset):
    """A user's own dataset that records the targets that come with the images of a batch.

    All of its targets may only be known by reading all of its items.
    """

    seen: dict[int, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, images: ImageDataset) -> _Loaded | None:
        """Return a recording copy of a wrapped dataset; None for those that know their targets."""
        if not isinstance(images, MapStyleDataset):
            return None
        return cls(images.dataset, images.split, images.name, images.source, images.limit)

    def load(self, sample: int) -> tuple[NDArray[np.uint8], int]:
        """Return one image and its target, which is recorded."""
        image, target = super().load(sample)
        self.seen[sample] = target
        return image, target

    def labels(self, samples: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the targets that were recorded for some samples."""
        return np.array([self.seen[int(sample)] for sample in samples], np.int32)


class RowSampler(Sampler[int]):
    """The rows of an epoch's view, in an order of their own each epoch.

    One DataLoader with persistent workers serves every epoch; `set_epoch(epoch)` is what Lightning,
    timm and others call on a sampler before each one.

    >>> sampler = RowSampler(soft.augmentation, seed=0)  # doctest: +SKIP
    >>> loader = DataLoader(data, batch_size=256, sampler=sampler)  # doctest: +SKIP
    >>> sampler.set_epoch(epoch)  # doctest: +SKIP
    >>> slab = soft.epoch(epoch, seed=0)  # doctest: +SKIP

    Args:
        views: the store's (`SoftLabels.augmentation`).
        positions: another sampler of 0 to N - 1, as `DistributedSampler(range(soft.samples))`,
            whose `set_epoch` is called as well; without one, all samples in an order drawn from the
            seed, as in `logitbank train`.
        seed: of the views and the order; the slab's must be the same, or it refuses the rows.
    """

    def __init__(
        self, views: StoredViews, positions: Sampler[int] | None = None, *, seed: int = 0
    ) -> None:
        self._views, self._samples = views.views, views.samples
        self._positions = positions
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that begins; 0 until then."""
        self._epoch = epoch
        set_epoch = getattr(self._positions, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        """Yield this process's rows."""
        epoch = self._epoch  # Read once: another thread may set it.
        first = view_of_epoch(epoch, self._views, self._seed) * self._samples
        positions: Iterable[int] = epoch_order(epoch, self._samples, self._seed)
        if self._positions is not None:
            positions = self._positions
        return (first + int(position) for position in positions)

    def __len__(self) -> int:
        return self._samples if self._positions is None else len(self._positions)  # type: ignore[arg-type]
