"""Datasets whose pixels are all in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.datasets.image_dataset import (
    checked_targets,
    fingerprint,
    head_count,
    pixel_ids,
)
from logitbank.stores.errors import DatasetError


@dataclass(frozen=True, eq=False)
class MemoryDataset:
    """An `ImageDataset` of (N, H, W, 3) uint8 images in memory.

    `source` is what error messages call it, such as `digits train` or a file's path.

    Raises:
        DatasetError: images of another dtype or shape, none at all, or targets that don't fit.
    """

    name: str
    split: str
    images: NDArray[np.uint8]
    targets: NDArray[np.int32]
    classes: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        images = self.images
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise DatasetError(
                f"{self.source}: images must be (N, height, width, 3) of uint8, "
                f"found {images.shape} of {images.dtype}"
            )
        if not len(images):
            raise DatasetError(f"{self.source}: no images")
        targets = checked_targets(self.targets, len(images), len(self.classes), self.source)
        object.__setattr__(self, "images", np.ascontiguousarray(images))
        object.__setattr__(self, "targets", targets)

    @cached_property
    def sample_ids(self) -> NDArray[np.uint64]:
        """(N,) uint64 hashes of the pixel bytes."""
        return pixel_ids(self.images)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 hex over ids and targets."""
        return fingerprint(self.sample_ids, self.targets)

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, sample: int) -> NDArray[np.uint8]:
        """Give one image, (H, W, 3) uint8."""
        return self.images[sample]

    def where(self, sample: int) -> str:
        """Name one image for an error message."""
        return f"sample {sample} of {self.source}"

    def head(self, count: int) -> MemoryDataset:
        """Give the first `count` samples."""
        count = head_count(count, len(self))
        return replace(self, images=self.images[:count], targets=self.targets[:count])
