"""Datasets of image files in class folders, in the order of torchvision's ImageFolder."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from logitbank.pipeline.datasets.class_folders import (
    EXTENSIONS,
    Listing,
    class_folders,
    image_files,
    ordered_classes,
)
from logitbank.pipeline.datasets.image_dataset import (
    file_ids,
    fingerprint,
    head_count,
)
from logitbank.pipeline.datasets.imagenet_val import flat_images, flat_val_labels
from logitbank.pipeline.datasets.pillow_pixels import rgb_pixels
from logitbank.pipeline.datasets.split_folders import require_class_level, split_folders
from logitbank.stores.errors import DatasetError

_SPLIT_FOLDERS = {"train": ("train",), "test": ("val", "test")}
# ImageNet's own test/ has no labels.
_IMAGENET_FOLDERS = {"train": ("train",), "test": ("val",)}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FolderDataset:
    """An `ImageDataset` of image files.

    `paths` is an (N,) array of bytes, relative to `root`: a list of a million names would be copied
    by every worker. Images are read by Pillow and converted to RGB; EXIF orientation is ignored, as
    by torchvision's loader. `images` is None.
    """

    name: str
    split: str
    root: Path
    paths: NDArray[np.bytes_]
    targets: NDArray[np.int32]
    classes: tuple[str, ...]
    images: None = None

    @cached_property
    def sample_ids(self) -> NDArray[np.uint64]:
        """(N,) uint64 hashes of relative path (with `/`) and file size; raises as `ids_of`."""
        return self.ids_of(np.arange(len(self)))

    def ids_of(self, samples: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the ids of some samples only: all ids need the size of every file.

        Raises:
            DatasetError: a file is missing.
        """
        paths = self.paths[samples]
        try:
            return file_ids((path, os.stat(self._path(path)).st_size) for path in paths)
        except OSError as error:
            raise DatasetError(f"{error.filename}: {error.strerror}") from error

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 hex over ids and targets."""
        return fingerprint(self.sample_ids, self.targets)

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, sample: int) -> NDArray[np.uint8]:
        """Decode one image into (H, W, 3) uint8.

        Raises:
            DatasetError: the file is missing, truncated or not an image.
        """
        path = self.where(sample)
        try:
            with Image.open(path) as image:
                return rgb_pixels(image)
        except Exception as error:  # Pillow's decoders raise many kinds on a damaged file.
            cause = str(error) or type(error).__name__
            raise DatasetError(f"{path}: can't be read as an image: {cause}") from error

    def where(self, sample: int) -> str:
        """Return the path of one image."""
        return self._path(self.paths[sample])

    def head(self, count: int) -> FolderDataset:
        """Return the first `count` samples."""
        count = head_count(count, len(self))
        return replace(self, paths=self.paths[:count], targets=self.targets[:count])

    def _path(self, path: bytes) -> str:
        return os.path.join(self.root, os.fsdecode(path))


def imagefolder(location: Path, split: str, order: str | None = None) -> FolderDataset:
    """Open a folder of class folders, or one that holds them under `train/`, `val/` or `test/`.

    The test split is `val/` where there is one, else `test/`. A folder of class folders is taken as
    whichever split is requested; so is ImageNet's `val` as published, a flat folder.

    Args:
        location: the folder.
        split: `train` or `test`.
        order: how classes are numbered, as `ordered_classes` takes it.

    Raises:
        DatasetError: a missing folder or split, a class without images, or folders that may not be
            classes.
    """
    if not split_folders(location):
        return folder_dataset("imagefolder", split, location, order)
    root = _split_root("imagefolder", location, split, _SPLIT_FOLDERS[split])
    return folder_dataset("imagefolder", split, root, order, f"imagefolder:{location}")


def imagefolder_has_split(location: Path, split: str) -> bool:
    """Return whether a split exists; a folder of class folders is the training split."""
    splits = split_folders(location)
    if splits:
        return any(folder in splits for folder in _SPLIT_FOLDERS[split])
    return split == "train" and location.is_dir()


def imagenet(location: Path, split: str, order: str | None = None) -> FolderDataset:
    """Open `train/` or `val/` of ImageNet in class folders; either may be absent.

    `val/` may also be flat, as published, and then be named itself.

    Raises:
        DatasetError: the split is absent, a class has no images, or as `imagefolder`.
    """
    if split == "test" and _is_flat(location):
        return folder_dataset("imagenet", split, location, order)
    root = _split_root("imagenet", location, split, _IMAGENET_FOLDERS[split])
    return folder_dataset("imagenet", split, root, order, f"imagenet:{location}")


def imagenet_has_split(location: Path, split: str) -> bool:
    """Return whether `train/` or `val/` exists."""
    if split == "test" and _is_flat(location):
        return True
    return any(folder in split_folders(location) for folder in _IMAGENET_FOLDERS[split])


def _is_flat(location: Path) -> bool:
    return location.is_dir() and len(flat_images(location, Listing.of(location))) > 0


def folder_dataset(
    name: str, split: str, root: Path, order: str | None = None, spec: str | None = None
) -> FolderDataset:
    """Return the dataset of class folders, classes and files sorted by name as in torchvision.

    Args:
        name: the kind of dataset.
        split: `train` or `test`.
        root: the folder of class folders.
        order: how classes are numbered, as `ordered_classes` takes it.
        spec: what the user calls the dataset, for messages.

    Raises:
        DatasetError: there is no folder, no class folders, a class without images, or folders that
            are not classes.
    """
    if not root.is_dir():
        raise DatasetError(f"{name}: {root} is not a folder")
    listing, spec = Listing.of(root), spec or f"{name}:{root}"
    if flat := flat_images(root, listing):
        train = split_folders(root.parent).get("train")
        numbered = None if train is None else _classes(train, Listing.of(train), order, spec)
        labels = flat_val_labels(root, flat, numbered)
        paths = np.array([os.fsencode(file) for file in flat], np.bytes_)
        return FolderDataset(name, split, root, paths, labels.targets, labels.classes)
    classes = _classes(root, listing, order, spec)
    if not classes:
        images = f", but {len(listing.images):,} images of its own" if listing.images else ""
        raise DatasetError(f"{name}: {root} holds no class folders{images}")
    files = image_files(root, classes)
    require_class_level(name, root, classes, files)
    for class_folder, own in zip(classes, files, strict=True):
        if not own:
            raise DatasetError(
                f"{name}: class folder {root / class_folder} holds no images "
                f"(known: {' '.join(EXTENSIONS)})"
            )
    paths = np.array(list(chain.from_iterable(files)), np.bytes_)
    targets = np.repeat(np.arange(len(classes)), list(map(len, files))).astype(np.int32)
    return FolderDataset(name, split, root, paths, targets, classes)


def _classes(root: Path, listing: Listing, order: str | None, spec: str) -> tuple[str, ...]:
    return ordered_classes(class_folders(root, listing), order, spec)


def _split_root(name: str, location: Path, split: str, wanted: tuple[str, ...]) -> Path:
    """Return the folder of a split, whose classes must be numbered as the other split's."""
    if not location.is_dir():
        raise DatasetError(f"{name}:{location} is not a folder")
    splits = split_folders(location)
    here = [splits[folder] for folder in wanted if folder in splits]
    if not here:
        named = " or ".join(f"{folder}/" for folder in wanted)
        raise DatasetError(f"{name}:{location}: no such split, it has no folder {named}")
    if here[0].name not in wanted:
        _LOG.warning(
            "%s:%s: %s/ is taken as the %s split of class folders",
            *(name, location, here[0].name, split),
        )
    if wanted[0] != "train" and "train" in splits:
        _require_same_classes(here[0], splits["train"])
    return here[0]


def _require_same_classes(root: Path, train: Path) -> None:
    """Check that no class is missing in a split: all later ones would silently be renumbered."""
    listing = Listing.of(root)
    if flat_images(root, listing):
        return  # Its classes are those of `train`.
    own, others = class_folders(root, listing), class_folders(train, Listing.of(train))
    differing = sorted(set(own) ^ set(others))
    if differing:
        raise DatasetError(
            f"{root} and {train} differ in {len(differing)} class folders, {differing[0]!r} first, "
            "so a class would have two numbers"
        )
