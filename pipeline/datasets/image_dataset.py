"""The interface of image datasets, and what identifies them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Set
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.errors import DatasetError, UsageError, unknown_name

# A store ranks the classes of a row by their numbers in 16 bits.
_MOST_CLASSES = 65_536
_LOG = logging.getLogger(__name__)


class ImageDataset(Protocol):
    """One split of N images and their classes, in a fixed order.

    `images` holds all pixels, (N, H, W, 3) uint8, of a dataset in memory, and is None for others.
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
        """All pixels of a dataset in memory."""

    @property
    def targets(self) -> NDArray[np.int32]:
        """The class index of each sample."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""

    @property
    def sample_ids(self) -> NDArray[np.uint64]:
        """The id of each sample, which changes with its image."""

    @property
    def fingerprint(self) -> str:
        """The identity of this split in this order."""

    def __len__(self) -> int: ...

    def pixels(self, sample: int) -> NDArray[np.uint8]:
        """Return one image, (H, W, 3) uint8, C-contiguous; DatasetError where it can't be read."""

    def where(self, sample: int) -> str:
        """Return what errors call an image: its path or its position."""

    def head(self, count: int) -> Self:
        """Return the same dataset cut to its first `count` samples."""


def normalise_split(split: str) -> str:
    """Return `train` or `test`; `val` is a synonym of `test`.

    Raises:
        UsageError: the split is unknown.
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
    """Return targets as (N,) int32, checked to be class indices, one for each sample.

    Raises:
        DatasetError: they are not whole numbers, not one for each sample, or outside 0 to classes -
            1.
    """
    array = _whole_numbers(targets, where)
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


def class_names(found: Any, targets: Any, where: str) -> tuple[str, ...]:
    """Return class names as text; without any, the numbers from 0 to the largest target.

    Args:
        found: a sequence of names, or None.
        targets: of all samples; ignored if there are names.
        where: the dataset's name, for messages.

    Raises:
        DatasetError: `found` is not a sequence of names, or the targets don't number classes from
            0.
    """
    return _numbers(targets, where) if found is None else _names(found, where)


def require_two_classes(dataset: ImageDataset) -> None:
    """Check that there are two classes or more.

    Raises:
        DatasetError: there is only one, for which every network is right.
    """
    if len(dataset.classes) < 2:
        only = ", ".join(map(repr, dataset.classes))
        raise DatasetError(
            f"{dataset.name} {dataset.split} has only one class, {only}, that of "
            f"{dataset.where(0)}: any network is right about it; use a dataset with two or more"
        )


def _whole_numbers(targets: Any, where: str) -> NDArray[Any]:
    try:
        array = np.asarray(targets)
    except (ValueError, TypeError) as error:  # Rows of different lengths.
        raise DatasetError(f"{where}: targets must be whole numbers in one row: {error}") from error
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DatasetError(
            f"{where}: targets must be whole numbers in one row, "
            f"found shape {array.shape} of {array.dtype}{_whole_numbers_hint(array)}"
        )
    return array


def _whole_numbers_hint(array: NDArray[Any]) -> str:
    if array.ndim == 2 and 1 in array.shape:
        return ": write them as one row, labels.reshape(-1)"
    if array.ndim != 1:
        return ""
    if len(array) and isinstance(array[0], str | bytes):
        return ": number the words, as numpy.unique(labels, return_inverse=True) does"
    is_whole = array.dtype.kind in "fb" and np.array_equal(array, np.trunc(array))
    return ": write them as labels.astype('int64')" if is_whole else ""


def _names(found: Any, where: str) -> tuple[str, ...]:
    wanted = f"{where}: classes must be a list of names, such as ['cat', 'dog']"
    if isinstance(found, np.ndarray | np.generic):
        found = found.tolist()
    is_one = isinstance(found, str | bytes | Mapping | Set)
    try:
        names = None if is_one else list(found)
    except TypeError:  # A number, or nothing at all.
        names = None
    if not names:
        raise DatasetError(f"{wanted}, found {_short(found)}")
    wrong = [name for name in names if isinstance(name, float | list | Mapping | np.ndarray | None)]
    if wrong:
        raise DatasetError(f"{wanted}, found {_short(wrong[0])} among them")
    try:
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{wanted} in UTF-8: {error}") from error


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:39]}…"


def _numbers(targets: Any, where: str) -> tuple[str, ...]:
    """Return class numbers as names, checking that the targets number classes from 0."""
    array = _whole_numbers(targets, where)
    if not len(array):
        raise DatasetError(f"{where}: no images")
    least, largest = int(array.min()), int(array.max())
    if least < 0:
        sample = int(array.argmin())
        raise DatasetError(f"{where}: target {least} of sample {sample} is below 0, so not a class")
    if largest >= _MOST_CLASSES:
        sample = int(array.argmax())
        raise DatasetError(
            f"{where}: target {largest} of sample {sample} would make {largest + 1:,} classes, but "
            f"{_MOST_CLASSES:,} are the most a store can hold: number the classes from 0"
        )
    if least > 0:
        raise DatasetError(
            f"{where}: targets run from {least} to {largest}, so class 0 has no samples: number "
            f"the classes from 0 (subtract {least}), or give the names of all classes"
        )
    missing = np.flatnonzero(np.bincount(array.astype(np.int64)) == 0)
    if len(missing):
        _LOG.warning(
            "%s: %d of %d classes have no samples, the first is class %d: the classes are numbers "
            "up to the largest target, as no names are given",
            *(where, len(missing), largest + 1, int(missing[0])),
        )
    return tuple(str(number) for number in range(largest + 1))


def head_count(count: int, samples: int) -> int:
    """Return the number of samples in the first `count`.

    Raises:
        UsageError: `count` is below 1.
    """
    if count < 1:
        raise UsageError(f"a limit of {count} samples: it must be 1 or more")
    return min(count, samples)
