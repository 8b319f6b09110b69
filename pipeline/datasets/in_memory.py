"""Datasets whose pixels are all in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

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
        require_layout(images.shape, images.dtype, self.source)
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
        """Return one image, (H, W, 3) uint8."""
        return self.images[sample]

    def where(self, sample: int) -> str:
        """Return what errors call an image."""
        return f"sample {sample} of {self.source}"

    def head(self, count: int) -> MemoryDataset:
        """Return the first `count` samples."""
        count = head_count(count, len(self))
        return replace(self, images=self.images[:count], targets=self.targets[:count])


def require_layout(shape: tuple[int, ...] | None, dtype: np.dtype[Any], where: str) -> None:
    """Check that images of a shape and dtype are (N, H, W, 3) uint8, at least one.

    Raises:
        DatasetError: they are not; the message begins with `where` and suggests a conversion if
            there is one.
    """
    way = ""
    if shape is not None and len(shape) == 4 and shape[1] == 3 != shape[3]:
        way = ": put the channels last, images.transpose(0, 2, 3, 1)"
    elif dtype.kind in "iuf" and dtype != np.uint8:
        way = ": convert them to 8 bits, (images * (255.0 / WHITE)).astype('uint8')"
    if shape is None or dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
        raise DatasetError(
            f"{where}: images must be (N, height, width, 3) of uint8, found {shape} of {dtype}{way}"
        )
    if not all(shape):
        raise DatasetError(f"{where}: no images")
