"""An epoch's batches: one view of every sample, in a fresh order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.views import Augmentation, StoredViews, kind_of
from logitbank.pipeline.views.dataset import ViewDataset
from logitbank.pipeline.views.mismatch import check_pixels, explain_mismatch
from logitbank.pipeline.views.rendering.renderer import ViewRenderer, pixel_crc
from logitbank.pipeline.views.targets import ViewTargets
from logitbank.stores.errors import (
    DatasetError,
    LogitbankError,
    PixelError,
    StoreError,
    UsageError,
)

_WHOLE_VIEW_BYTES = 2**32


@dataclass(frozen=True)
class Batch:
    """Images of one view: (B, S, S, 3) uint8 and (B,) int64 targets on the device, (B,) int64 rows.

    Targets of mixed views are (B, C) float32, the weight of each class. The rows, view * N +
    sample, are on the CPU.
    """

    pixels: torch.Tensor
    targets: torch.Tensor
    rows: torch.Tensor


class EpochBatches(Protocol):
    """What makes a run's batches, epoch after epoch."""

    def begin(self, view: int) -> None:
        """Prepare an epoch of this view; what can be rendered and checked at once is.

        Raises:
            PixelError: its pixels are not those the teacher saw.
            StoreError: what is stored of the view is missing or damaged.
        """

    def batches(self, order: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield the view that was begun: the samples in this order, batch after batch.

        Raises:
            DatasetError: an image can't be read.
            PixelError: its pixels are not those the teacher saw.
            StoreError: what is stored of the view is missing or damaged.
        """

    def close(self) -> None:
        """Stop its workers."""


def epoch_batches(
    dataset: ImageDataset, views: StoredViews | Augmentation, config: TrainConfig, samples: int
) -> EpochBatches:
    """Return what makes batches: whole views in memory where they fit, else workers.

    Args:
        dataset: as many samples as the store holds; without a store those to train on.
        views: a store's, or an augmentation, whose views are then drawn from the run's seed.
        config: resolved.
        samples: how many are trained on, those after the first `config.skip`.
    """
    augmentation = kind_of(views)
    view_bytes = samples * augmentation.size**2 * 3
    if dataset.images is not None and view_bytes <= _WHOLE_VIEW_BYTES:
        return MemoryBatches(dataset, views, config, samples)
    return WorkerBatches(dataset, views, config)


class MemoryBatches:
    """Batches of a dataset in memory: each epoch's view is rendered whole, then gathered from.

    All of its checksums are compared, even if a sample would do: at three million a second they
    cost an epoch next to nothing.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        views: StoredViews | Augmentation,
        config: TrainConfig,
        samples: int,
    ) -> None:
        self._stored = views if isinstance(views, StoredViews) else None
        augmentation = kind_of(views)
        self._config = config
        self._device = torch.device(config.device or "cpu")
        self._pool = ThreadPoolExecutor(max(1, config.workers), thread_name_prefix="render")
        self._renderer = ViewRenderer(dataset, augmentation, pool=self._pool, device=self._device)
        self._samples = config.skip + np.arange(samples)
        self._first_row = 0
        self._pixels = torch.empty(0)
        self._targets = ViewTargets(torch.empty(0), len(dataset.classes))

    def begin(self, view: int) -> None:
        """Render the view of all samples, and compare it with what the teacher saw."""
        self._first_row = view * len(self._renderer.dataset)
        self._pixels = self._pixels[:0]  # Frees the last view before the next one is made.
        if self._stored is None:
            self._pixels, params = self._renderer.draw(self._config.seed, view, self._samples)
        else:
            params = self._stored.params(view, self._samples)
            self._pixels = self._rendered(self._stored, view, params)
        dataset = self._renderer.dataset
        self._targets = ViewTargets.of(
            self._renderer.augmentation,
            dataset.targets.__getitem__,
            self._samples,
            params,
            len(dataset.classes),
            self._device,
        )

    def _rendered(self, stored: StoredViews, view: int, params: NDArray[Any]) -> torch.Tensor:
        try:
            pixels = self._renderer.render(self._samples, params)
        except PixelError:
            # Parameters that no image can have: name the sample.
            check_pixels(self._renderer, stored, view, samples=int(self._samples[-1]) + 1)
            raise
        if self._config.verify_pixels != "off":
            wrong = np.flatnonzero(pixel_crc(pixels) != stored.pixel_crc(view, self._samples))
            if len(wrong):
                first = int(self._samples[wrong[0]])
                raise PixelError(explain_mismatch(self._renderer, stored, view, first))
        return pixels

    def batches(self, order: NDArray[np.int64]) -> Iterator[Batch]:
        """Gather the rendered view, batch after batch."""
        samples = torch.from_numpy(order)
        for chosen, rows in zip(
            (samples - self._config.skip).to(self._device).split(self._config.batch_size),
            (samples + self._first_row).split(self._config.batch_size),
            strict=True,
        ):
            yield Batch(self._pixels.index_select(0, chosen), self._targets[chosen], rows)

    def close(self) -> None:
        """Stop the threads that render."""
        self._pool.shutdown(cancel_futures=True)


class WorkerBatches:
    """Batches of image files: worker processes decode, render and check the rows they are sent."""

    def __init__(
        self, dataset: ImageDataset, views: StoredViews | Augmentation, config: TrainConfig
    ) -> None:
        self._device = torch.device(config.device or "cpu")
        self._samples = len(dataset)
        self._view = 0
        self._rows = _RowBatches(config.batch_size)
        data = ViewDataset(
            dataset,
            views,
            verify_pixels=config.verify_pixels,  # type: ignore[arg-type]
            seed=config.seed,
        )
        self._loader: DataLoader[Any] | None = DataLoader(
            _ErrorsAsBatches(data),
            batch_sampler=self._rows,
            collate_fn=_collated,
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            pin_memory=self._device.type == "cuda",
            # A loader draws from its generator when it starts: torch's own is the student's.
            generator=torch.Generator(),
        )

    def begin(self, view: int) -> None:
        """Set the view; its images are rendered and checked batch by batch."""
        self._view = view

    def batches(self, order: NDArray[np.int64]) -> Iterator[Batch]:
        """Receive the batches that the workers make."""
        assert self._loader is not None, "it was closed"
        self._rows.order = order + self._view * self._samples
        for made in _received(self._loader):
            if isinstance(made, LogitbankError):
                raise made
            pixels, targets, rows = made
            yield Batch(
                pixels.to(self._device, non_blocking=True),
                targets.to(self._device, non_blocking=True),
                rows,
            )

    def close(self) -> None:
        """Stop the worker processes."""
        self._loader = None


def _received(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield what a loader makes; a worker that died is a LogitbankError."""
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise LogitbankError(
            "a worker process that renders images died, most often for lack of memory: lower "
            "--workers, and run the same command again"
        ) from error


class _RowBatches(Sampler[list[int]]):
    """The rows of the current epoch, a batch at a time."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self.order = np.empty(0, np.int64)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.order), self._batch_size):
            yield self.order[start : start + self._batch_size].tolist()

    def __len__(self) -> int:
        return -(-len(self.order) // self._batch_size)


class _ErrorsAsBatches(Dataset[Any]):
    """A dataset that returns an error in place of the batch that it spoils.

    Raised in a worker, it would reach the user as a traceback within a message.
    """

    def __init__(self, data: ViewDataset) -> None:
        self._data = data

    def __getitems__(self, rows: Sequence[int]) -> list[Any] | LogitbankError:
        try:
            return self._data.__getitems__(rows)
        except LogitbankError as error:
            return _plain(error)


def _plain(error: LogitbankError) -> LogitbankError:
    """Return a picklable error of the same family: some are made of more than their message."""
    for family in (PixelError, DatasetError, StoreError, UsageError):
        if isinstance(error, family):
            return family(str(error))
    return LogitbankError(str(error))


def _collated(items: list[Any] | LogitbankError) -> Any:
    return items if isinstance(items, LogitbankError) else default_collate(items)
