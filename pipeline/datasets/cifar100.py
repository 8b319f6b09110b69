"""CIFAR-100 in its original form: three Python pickles, read without trusting them."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.datasets.image_dataset import class_names
from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.stores.errors import DatasetError

FOLDER = "cifar-100-python"
# The md5 of the original files, as torchvision.datasets.CIFAR100 lists them.
ORIGINAL_MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
_SIDE = 32
_LOG = logging.getLogger(__name__)


def cifar100(location: Path, split: str, *, download: bool = False) -> MemoryDataset:
    """Read one split of CIFAR-100 from its python pickles.

    Args:
        location: the folder that holds `cifar-100-python/`, or that folder's files.
        split: `train` or `test`.
        download: whether torchvision may download the original into `location` if it is missing.

    Raises:
        DatasetError: files that are missing, damaged, or not CIFAR-100's.
    """
    if download and not cifar100_has_split(location, split):
        _download(location)
    folder = _folder(location, split)
    batch = _read(folder / split)
    meta = _read(folder / "meta")
    pixels = _field(batch, "data", folder / split)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise DatasetError(f"{folder / split}: 'data' is not an array of uint8 rows")
    if pixels.shape[1] != 3 * _SIDE**2:
        raise DatasetError(f"{folder / split}: rows of {pixels.shape[1]} bytes, expected 3072")
    images = pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    targets = _field(batch, "fine_labels", folder / split)
    names = _field(meta, "fine_label_names", folder / "meta")
    classes = class_names(names, targets, str(folder / "meta"))
    return MemoryDataset("cifar100", split, images, targets, classes, str(folder / split))


def cifar100_has_split(location: Path, split: str) -> bool:
    """Return whether the split's file and `meta` exist."""
    return any(
        (folder / split).is_file() and (folder / "meta").is_file()
        for folder in (location / FOLDER, location)
    )


def _folder(location: Path, split: str) -> Path:
    for folder in (location / FOLDER, location):
        if (folder / split).is_file():
            return folder
    raise DatasetError(
        f"cifar100:{location}: neither {FOLDER}/{split} nor {split} is a file there; "
        "name the folder that holds cifar-100-python/, or fetch it with --download"
    )


def _download(location: Path) -> None:
    from torchvision.datasets import CIFAR100  # Imports torch; reading files needs none.

    try:
        CIFAR100(str(location), download=True)
    except (OSError, RuntimeError) as error:
        raise DatasetError(f"cifar100:{location}: the download failed: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    """Unpickle one file, and warn if it isn't the original."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != ORIGINAL_MD5[path.name]:
        _LOG.warning(
            "%s is not the original CIFAR-100 file (md5 %s, not %s): a subset or a changed copy",
            path,
            found,
            ORIGINAL_MD5[path.name],
        )
    loaded = restricted_loads(content, str(path))
    if not isinstance(loaded, dict):
        raise DatasetError(f"{path}: holds a {type(loaded).__name__}, expected CIFAR's dictionary")
    return loaded


def _field(content: dict[str, Any], key: str, path: Path) -> Any:
    if key not in content:
        raise DatasetError(f"{path}: has no {key!r}: not a CIFAR-100 file")
    return content[key]


def _reconstruct(kind: type, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Stand in for numpy's private function of this name, whose module moved between releases."""
    return np.ndarray.__new__(kind, shape, dtype)


def _frombuffer(
    buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any
) -> NDArray[Any]:
    """Stand in for numpy's private function of this name: how protocol 5 spells arrays."""
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`: how protocol 2 spells bytes."""
    return text.encode(encoding)


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}


class _RestrictedUnpickler(pickle.Unpickler):
    """An unpickler of NumPy arrays, text, bytes, lists and dictionaries only.

    A pickle can name any function for the reader to call; this class refuses all others.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed callable.

        Raises:
            pickle.UnpicklingError: it is not allowed.
        """
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed") from None


def restricted_loads(content: bytes, where: str) -> Any:
    """Unpickle numpy arrays, text, bytes, numbers, lists and dictionaries, and nothing else.

    Text of Python 2 is read as latin1.

    Raises:
        DatasetError: it holds anything else or is damaged; the message begins with `where`.
    """
    try:
        return _RestrictedUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # A damaged pickle can raise nearly anything.
        cause = str(error) or type(error).__name__
        raise DatasetError(f"{where}: can't be unpickled: {cause}") from error
