"""Views of a dataset: drawn by address, rendered from what was drawn, and mixed with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import google_crc32c
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.views.augmentations.mixed import Augmentation, Mixed, MixedParams
from logitbank.pipeline.views.rendering.image_renderer import ImageRenderer
from logitbank.stores.errors import DatasetError

# Bytes of the views that are mixed at a time: what is computed of them stays in the cache.
_MIXED_BYTES = 2**20


class ViewRenderer:
    """Draws and renders views of one dataset under one augmentation.

    `cifar-weak` views of images in memory are rendered by batches on `device`; all others image by
    image in Pillow, in the threads of `pool` where there is one. Both give the same pixels. Mixed
    views are made of two of these. Made once, it is cheap to call: padded images and permutations
    are kept.

    Args:
        dataset: the images.
        augmentation: how their views are drawn.
        pool: threads for the views that Pillow renders.
        device: where views are wanted.

    Raises:
        DatasetError: `cifar-weak` can't take the images in memory, or they are fewer than partners
            are drawn from.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        augmentation: Augmentation,
        *,
        pool: Executor | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self._mixed = augmentation if isinstance(augmentation, Mixed) else None
        if self._mixed is not None and len(dataset) < self._mixed.partners:
            raise DatasetError(
                f"{augmentation.name} mixes each image with any of {self._mixed.partners} samples, "
                f"but there are {len(dataset)}: it isn't the dataset that was cached, or is cut "
                "differently"
            )
        base = augmentation.base if isinstance(augmentation, Mixed) else augmentation
        self._images = ImageRenderer(dataset, base, pool=pool, device=device)

    def render(self, samples: ArrayLike, params: NDArray[Any]) -> torch.Tensor:
        """Render views from their parameters, and from nothing else.

        Args:
            samples: (B,) indices of images.
            params: (B, P) parameters, in the augmentation's columns.

        Returns:
            (B, S, S, 3) uint8 on the device.

        Raises:
            DatasetError: an image can't be read.
            PixelError: the parameters can't belong to that image, or to its partner.
        """
        indices = np.asarray(samples, np.int64)
        if self._mixed is None:
            return self._images.render(indices, params)
        parts = self._mixed.split(params)

        def views(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
            own = self._images.render(indices[rows], parts.own[rows])
            return own, self._images.render(parts.partner[rows], parts.other[rows])

        return _mixed(self._mixed, views, parts.drawn)

    def draw(self, seed: int, view: int, samples: ArrayLike) -> tuple[torch.Tensor, NDArray[Any]]:
        """Draw one view of each sample and render it; an image file is decoded once.

        Args:
            seed: 0 to 2**64 - 1.
            view: the view's number.
            samples: (B,) indices in the whole split.

        Returns:
            (B, S, S, 3) uint8 on the device, and the (B, P) parameters.

        Raises:
            DatasetError: an image can't be read, or is of a size that can't be taken.
            UsageError: there is no such view.
        """
        ((pixels, params),) = self.draw_views(seed, (view,), samples)
        return pixels, params

    def draw_views(
        self, seed: int, views: Sequence[int], samples: ArrayLike
    ) -> list[tuple[torch.Tensor, NDArray[Any]]]:
        """Draw several views of each sample and render them; an image file is decoded once for all.

        The partners of mixed views, others in each view, are decoded for each.

        Returns:
            For each view what `draw` returns; raises as that does.
        """
        indices, mixed = np.asarray(samples, np.int64), self._mixed
        if mixed is None:
            return self._images.draw_views(seed, views, indices)
        drawn = self._images.draw_views(seed, list(map(mixed.base_view, views)), indices)
        return [
            self._draw_mixed(mixed, seed, view, indices, own)
            for view, own in zip(views, drawn, strict=True)
        ]

    def _draw_mixed(
        self,
        mixed: Mixed,
        seed: int,
        view: int,
        samples: NDArray[np.int64],
        own: tuple[torch.Tensor, NDArray[Any]],
    ) -> tuple[torch.Tensor, NDArray[Any]]:
        """Draw the partners of some views that are drawn and rendered, and mix them."""
        pixels, params = own
        partners, drawn = mixed.draw_mix(seed, samples, view)
        ((others, of_others),) = self._images.draw_views(seed, [mixed.base_view(view)], partners)
        joined = mixed.joined(MixedParams(partners, params, of_others, drawn))
        return _mixed(mixed, lambda rows: (pixels[rows], others[rows]), drawn), joined


def _mixed(
    augmentation: Mixed,
    views: Callable[[slice], tuple[torch.Tensor, torch.Tensor]],
    drawn: NDArray[Any],
) -> torch.Tensor:
    """Mix views, some at a time: `views` returns own ones and partners' for a run of rows."""
    count, size = len(drawn), augmentation.size
    step = max(1, _MIXED_BYTES // (3 * size * size))
    first = augmentation.mix.mix(*views(slice(step)), drawn[:step])
    if count <= step:
        return first
    pixels = first.new_empty((count, *first.shape[1:]))
    pixels[:step] = first
    for start in range(step, count, step):
        rows = slice(start, start + step)
        pixels[rows] = augmentation.mix.mix(*views(rows), drawn[rows])
    return pixels


def pixel_crc(pixels: torch.Tensor | NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Compute the CRC-32C of each view's bytes in height, width, channel order.

    Args:
        pixels: (B, S, S, 3) uint8, on any device.

    Returns:
        (B,) uint32.
    """
    array = pixels.cpu().numpy() if isinstance(pixels, torch.Tensor) else pixels
    images = np.ascontiguousarray(array)
    return np.fromiter(map(google_crc32c.value, images), np.uint32, len(images))
