"""Datasets by spec: `cifar100:DIR`, `imagefolder:DIR`, `digits` and so on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from logitbank.pipeline.datasets.cifar100 import cifar100, cifar100_has_split
from logitbank.pipeline.datasets.class_folders import CLASS_ORDERS
from logitbank.pipeline.datasets.digits import digits
from logitbank.pipeline.datasets.folders import (
    imagefolder,
    imagefolder_has_split,
    imagenet,
    imagenet_has_split,
)
from logitbank.pipeline.datasets.hdf5 import hdf5, hdf5_has_split
from logitbank.pipeline.datasets.image_dataset import ImageDataset, normalise_split
from logitbank.pipeline.datasets.imported import MapStyleDataset, imported, imported_has_split
from logitbank.stores.errors import UsageError, unknown_name


@dataclass(frozen=True)
class _Kind:
    """How a kind of dataset is opened; `location` describes what follows the colon of its spec."""

    location: str | None
    open: Callable[[str, str], ImageDataset]
    has_split: Callable[[str, str], bool]


def _of_path(
    location: str,
    open_path: Callable[[Path, str], ImageDataset],
    has_split: Callable[[Path, str], bool],
) -> _Kind:
    return _Kind(
        location,
        lambda path, split: open_path(_expanded(path), split),
        lambda path, split: has_split(_expanded(path), split),
    )


def _of_folder(
    open_folder: Callable[[Path, str, str | None], ImageDataset],
    has_split: Callable[[Path, str], bool],
) -> _Kind:
    def opened(location: str, split: str) -> ImageDataset:
        path, order = _folder_and_order(location)
        return open_folder(path, split, order)

    return _Kind(
        "DIR[@text|@natural]",
        opened,
        lambda location, split: has_split(_folder_and_order(location)[0], split),
    )


def _folder_and_order(location: str) -> tuple[Path, str | None]:
    """Split `DIR@ORDER`; a folder whose own name ends so is that folder."""
    path, _, order = location.rpartition("@")
    if not path or os.path.isdir(os.path.expanduser(location)):
        return _expanded(location), None
    if order in CLASS_ORDERS:
        return _expanded(path), order
    if os.path.isdir(os.path.expanduser(path)):
        raise unknown_name("order of classes", order, CLASS_ORDERS)
    return _expanded(location), None


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # ~name of an unknown user.
        raise UsageError(f"{path}: {error}") from None


_KINDS = {
    "digits": _Kind(None, lambda _, split: digits(split), lambda _, split: True),
    "cifar100": _of_path("DIR", cifar100, cifar100_has_split),
    "imagefolder": _of_folder(imagefolder, imagefolder_has_split),
    "imagenet": _of_folder(imagenet, imagenet_has_split),
    "hdf5": _of_path("FILE|DIR", hdf5, hdf5_has_split),
    "import": _Kind("package.module:factory", imported, imported_has_split),
}


def open_dataset(
    spec: str, split: str = "train", *, download: bool = False, compare_targets: bool = True
) -> ImageDataset:
    """Open one split of a dataset.

    Args:
        spec: `digits`, `cifar100:DIR`, `imagefolder:DIR`, `imagenet:DIR`, `hdf5:FILE|DIR` or
            `import:package.module:factory`. A folder of class folders may be followed by their
            order, `@text` or `@natural` (`ordered_classes`).
        split: `train`, or `test` and its synonym `val`.
        download: whether torchvision may download CIFAR-100 if it is missing.
        compare_targets: whether the `targets` of an `import:` dataset are compared with some of its
            items; a worker's are compared with the store's.

    Raises:
        UsageError: an unknown kind or split, a spec without its location, or a download of anything
            but CIFAR-100.
        DatasetError: the data is missing, unreadable or inconsistent.
    """
    name, location = _parsed(spec)
    split = normalise_split(split)
    if not download:
        dataset = _KINDS[name].open(location, split)
        if compare_targets and isinstance(dataset, MapStyleDataset):
            dataset.require_own_targets()
        return dataset
    if name != "cifar100":
        raise UsageError(f"{spec}: only cifar100 can be downloaded")
    return cifar100(_expanded(location), split, download=True)


def has_split(spec: str, split: str) -> bool:
    """Return whether a dataset has its own split of this name, without reading images.

    A single HDF5 file, a folder of class folders without `train/` or `val/`, and a factory that
    takes no split count as the training split alone, so that nobody evaluates on training images
    by default; `open_dataset` returns them as whichever split is requested.

    Raises:
        UsageError: an unknown kind or split, or a spec without its location.
    """
    name, location = _parsed(spec)
    return _KINDS[name].has_split(location, normalise_split(split))


def absolute_spec(spec: str) -> str:
    """Return a spec that names the same dataset from any folder: files by absolute path.

    Raises:
        UsageError: an unknown kind, or a spec without its location.
    """
    name, location = _parsed(spec)
    if _KINDS[name].location is None or name == "import":
        return spec
    if name not in ("imagefolder", "imagenet"):
        return f"{name}:{_expanded(location).absolute()}"
    path, order = _folder_and_order(location)
    return f"{name}:{path.absolute()}" + (f"@{order}" if order else "")


def weak_augmentation(dataset: ImageDataset) -> str:
    """Return a dataset's usual augmentation: `cifar-weak` for square images in memory."""
    images = dataset.images
    is_square = images is not None and images.shape[1] == images.shape[2]
    return "cifar-weak" if is_square else "imagenet-weak"


def _parsed(spec: str) -> tuple[str, str]:
    name, _, location = spec.partition(":")
    if name not in _KINDS:
        raise unknown_name("dataset", name, _KINDS)
    wanted = _KINDS[name].location
    if wanted is not None and not location:
        raise UsageError(f"dataset {spec!r} is missing its location: {name}:{wanted}")
    if wanted is None and location:
        raise UsageError(f"dataset {spec!r}: {name} takes nothing after its name")
    return name, location
