"""What a dataset of images is to the rest of the pipeline, and what identifies it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.errors import DatasetError, UsageError, unknown_name


class ImageDataset(Protocol):
    """One split of N images and their classes, in a fixed order.

    `images` holds all pixels, (N, H, W, 3) uint8, of a set in memory, and is None for others.
    `targets` are (N,) int32 indices into `classes`; `sample_ids` are (N,) uint64; `fingerprint` is
    the sha256 hex over ids and targets. `name` is the kind of spec it was opened from.
    """

    @property
    def name(self) -> str:
        """The kind of dataset, such as `cifar100`."""

    @property
    def split(self) -> str:
        """`train` or `test`."""

    @property
    def images(self) -> NDArray[np.uint8] | None:
        """All pixels of a set in memory."""

    @property
    def targets(self) -> NDArray[np.int32]:
        """The class index of each sample."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""

    @property
    def sample_ids(self) -> NDArray[np.uint64]:
        """What tells each image from another one in its place."""

    @property
    def fingerprint(self) -> str:
        """What tells this split, in this order, from any other."""

    def __len__(self) -> int: ...

    def pixels(self, sample: int) -> NDArray[np.uint8]:
        """Give one image, (H, W, 3) uint8, C-contiguous; DatasetError where it can't be read."""

    def where(self, sample: int) -> str:
        """Name one image for an error message: its path or its place."""

    def head(self, count: int) -> Self:
        """Give the same dataset cut to its first `count` samples."""


def normalise_split(split: str) -> str:
    """Give `train` or `test`; `val` is a synonym of `test`.

    Raises:
        UsageError: another split.
    """
    if split not in ("train", "test", "val"):
        raise unknown_name("split", split, ("train", "test", "val"))
    return "train" if split == "train" else "test"


def pixel_ids(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint64]:
    """Hash the bytes of each image (H, W, C order): BLAKE2b of 8 bytes, read little-endian."""
    return _ids(np.ascontiguousarray(image).data for image in images)


def file_ids(names_and_sizes: Iterable[tuple[bytes, int]]) -> NDArray[np.uint64]:
    r"""Hash each file's `relative/path\0size`, the size in decimal digits, as `pixel_ids` does."""
    return _ids(name + b"\0" + str(size).encode() for name, size in names_and_sizes)


def _ids(contents: Iterable[bytes | memoryview]) -> NDArray[np.uint64]:
    digests = (hashlib.blake2b(content, digest_size=8).digest() for content in contents)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def fingerprint(sample_ids: NDArray[np.uint64], targets: NDArray[np.int32]) -> str:
    """Hash ids (as little-endian uint64), then targets (as little-endian int32): sha256 hex."""
    digest = hashlib.sha256(sample_ids.astype("<u8").tobytes())
    digest.update(targets.astype("<i4").tobytes())
    return digest.hexdigest()


def checked_targets(targets: Any, samples: int, classes: int, where: str) -> NDArray[np.int32]:
    """Give targets as (N,) int32 once they are known to be class indices, one for each sample.

    Raises:
        DatasetError: not whole numbers, not one for each sample, or outside 0 to classes - 1.
    """
    array = np.asarray(targets)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DatasetError(
            f"{where}: targets must be whole numbers in one row, "
            f"found shape {array.shape} of {array.dtype}"
        )
    if len(array) != samples:
        raise DatasetError(f"{where}: {samples} images but {len(array)} targets")
    outside = np.flatnonzero((array < 0) | (array >= classes))
    if len(outside):
        first = int(outside[0])
        raise DatasetError(
            f"{where}: target {array[first]} of sample {first} is outside the {classes} classes "
            f"(0 to {classes - 1}); {len(outside)} such targets"
        )
    return array.astype(np.int32)


def class_names(found: Sequence[Any] | None, targets: Any) -> tuple[str, ...]:
    """Give class names as text; without any, the numbers from 0 to the largest target."""
    if found is not None:
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in found)
    largest = int(np.max(targets)) if len(targets) else 0
    return tuple(str(number) for number in range(largest + 1))


def head_count(count: int, samples: int) -> int:
    """Give how many samples the first `count` of a dataset are.

    Raises:
        UsageError: fewer than one is asked for.
    """
    if count < 1:
        raise UsageError(f"a limit of {count} samples: it must be 1 or more")
    return min(count, samples)
