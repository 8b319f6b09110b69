"""Views of one image each: drawn, and rendered by the fastest way that gives the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.views.augmentation import ImageAugmentation
from logitbank.pipeline.views.augmentations.cifar_weak import CifarWeak, PermutationTable
from logitbank.pipeline.views.rendering.batched_cifar import PaddedImages

Rendered = TypeVar("Rendered")


class ImageRenderer:
    """Draws and renders views of one dataset under one augmentation of single images.

    `cifar-weak` views of images in memory are rendered by batches on `device`; all others image by
    image in Pillow, in the threads of `pool` where there is one. Both give the same pixels. Made
    once, it is cheap to call: padded images and permutations are kept.

    Args:
        dataset: the images.
        augmentation: how their views are drawn.
        pool: threads for the views that Pillow renders.
        device: where views are wanted.

    Raises:
        DatasetError: `cifar-weak` can't take the images in memory.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        augmentation: ImageAugmentation,
        *,
        pool: Executor | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self._pool = pool
        self._device = torch.device(device)
        self._padded: PaddedImages | None = None
        self._table: PermutationTable | None = None
        if isinstance(augmentation, CifarWeak) and dataset.images is not None:
            self._padded = PaddedImages(dataset.images, augmentation, device)

    def render(self, samples: ArrayLike, params: NDArray[Any]) -> torch.Tensor:
        """Render views from their parameters; see `ViewRenderer.render`."""
        indices = np.asarray(samples, np.int64)
        if self._padded is not None:
            return self._padded.render(indices, params)

        def view(row: int) -> NDArray[np.uint8]:
            return self.augmentation.render(self.dataset.pixels(int(indices[row])), params[row])

        return self._stacked(self._map(view, range(len(indices))), len(indices))

    def draw_views(
        self, seed: int, views: Sequence[int], samples: ArrayLike
    ) -> list[tuple[torch.Tensor, NDArray[Any]]]:
        """Draw several views of each sample and render them; see `ViewRenderer.draw_views`."""
        indices = np.asarray(samples, np.int64)
        images = self.dataset.images
        if images is None:
            return self._draw_files(seed, views, indices)
        params = [self._draw_in_memory(seed, view, indices, images) for view in views]
        return [(self.render(indices, drawn), drawn) for drawn in params]

    def _draw_files(
        self, seed: int, views: Sequence[int], samples: NDArray[np.int64]
    ) -> list[tuple[torch.Tensor, NDArray[Any]]]:
        augmentation, size = self.augmentation, self.augmentation.size
        shape = (len(views), len(samples))
        params = np.empty((*shape, len(augmentation.columns)), augmentation.dtype)
        pixels = np.empty((*shape, size, size, 3), np.uint8)

        def draw_row(row: int) -> None:
            image = self.dataset.pixels(int(samples[row]))
            for place, view in enumerate(views):
                drawn = augmentation.draw(seed, samples[row : row + 1], view, [image.shape[:2]])[0]
                params[place, row] = drawn
                pixels[place, row] = augmentation.render(image, drawn)

        for _ in self._map(draw_row, range(len(samples))):
            pass
        on_device = torch.from_numpy(pixels).to(self._device)
        return list(zip(on_device, params, strict=True))

    def _draw_in_memory(
        self, seed: int, view: int, samples: NDArray[np.int64], images: NDArray[np.uint8]
    ) -> NDArray[Any]:
        if self._padded is None or not isinstance(self.augmentation, CifarWeak):
            sizes = np.broadcast_to(images.shape[1:3], (len(samples), 2))
            return self.augmentation.draw(seed, samples, view, sizes)
        table = self._table  # Another thread may put that of another seed in its place.
        if table is None or table.seed != seed:
            self._table = table = PermutationTable(self.augmentation, seed, len(self.dataset))
        return table.draw(samples, view)

    def _map(
        self, render_row: Callable[[int], Rendered], rows: Iterable[int]
    ) -> Iterator[Rendered]:
        return map(render_row, rows) if self._pool is None else self._pool.map(render_row, rows)

    def _stacked(self, views: Iterable[NDArray[np.uint8]], count: int) -> torch.Tensor:
        size = self.augmentation.size
        pixels = np.empty((count, size, size, 3), np.uint8)
        for row, view in enumerate(views):
            pixels[row] = view
        return torch.from_numpy(pixels).to(self._device)
