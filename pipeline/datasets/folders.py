"""Datasets of image files in class folders, in the order of torchvision's ImageFolder."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from logitbank.pipeline.datasets.image_dataset import (
    file_ids,
    fingerprint,
    head_count,
)
from logitbank.stores.errors import DatasetError

# torchvision.datasets.folder.IMG_EXTENSIONS
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_SPLIT_FOLDERS = {"train": ("train",), "test": ("val", "test")}
# ImageNet's own test/ has no labels.
_IMAGENET_FOLDERS = {"train": ("train",), "test": ("val",)}


@dataclass(frozen=True, eq=False)
class FolderDataset:
    """An `ImageDataset` of image files.

    `paths` is an (N,) array of bytes, relative to `root`: a list of a million names would be copied
    by every worker. Images are read by Pillow and converted to RGB; EXIF orientation is ignored, as
    torchvision's loader ignores it. `images` is None.
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
        """Give the ids of some samples alone: all of them take a look at every file.

        Raises:
            DatasetError: a file has gone.
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
            DatasetError: the file is missing, truncated or no image.
        """
        path = self.where(sample)
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except Exception as error:  # Pillow's decoders raise many kinds on a damaged file.
            cause = str(error) or type(error).__name__
            raise DatasetError(f"{path}: can't be read as an image: {cause}") from error

    def where(self, sample: int) -> str:
        """Give the path of one image."""
        return self._path(self.paths[sample])

    def head(self, count: int) -> FolderDataset:
        """Give the first `count` samples."""
        count = head_count(count, len(self))
        return replace(self, paths=self.paths[:count], targets=self.targets[:count])

    def _path(self, path: bytes) -> str:
        return os.path.join(self.root, os.fsdecode(path))


def imagefolder(location: Path, split: str) -> FolderDataset:
    """Open a folder of class folders, or one that holds them under `train/`, `val/` or `test/`.

    The test split is `val/` where there is one, else `test/`. A folder of class folders is the
    split that is asked for.

    Raises:
        DatasetError: a missing folder or split, or a class without images.
    """
    if not _is_split(location):
        return folder_dataset("imagefolder", split, location)
    root = _split_root("imagefolder", location, _SPLIT_FOLDERS[split])
    return folder_dataset("imagefolder", split, root)


def imagefolder_has_split(location: Path, split: str) -> bool:
    """Say whether there is a split of this name; a folder of class folders is the training one."""
    if _is_split(location):
        return any((location / folder).is_dir() for folder in _SPLIT_FOLDERS[split])
    return split == "train" and location.is_dir()


def imagenet(location: Path, split: str) -> FolderDataset:
    """Open `train/` or `val/` of ImageNet in class folders; either may be absent.

    Raises:
        DatasetError: the split is absent, or a class has no images.
    """
    root = _split_root("imagenet", location, _IMAGENET_FOLDERS[split])
    return folder_dataset("imagenet", split, root)


def imagenet_has_split(location: Path, split: str) -> bool:
    """Say whether `train/` or `val/` is there."""
    return any((location / folder).is_dir() for folder in _IMAGENET_FOLDERS[split])


def folder_dataset(name: str, split: str, root: Path) -> FolderDataset:
    """List the images of class folders: classes and files sorted by name, as torchvision does.

    Raises:
        DatasetError: no folder, no class folders, or a class without images.
    """
    if not root.is_dir():
        raise DatasetError(f"{name}: {root} is not a folder")
    classes = _class_folders(root)
    if not classes:
        raise DatasetError(f"{name}: {root} holds no class folders")
    paths: list[bytes] = []
    counts = []
    for class_folder in classes:
        files = _image_files(root, class_folder)
        if not files:
            raise DatasetError(
                f"{name}: class folder {root / class_folder} holds no images "
                f"(known: {' '.join(EXTENSIONS)})"
            )
        paths.extend(files)
        counts.append(len(files))
    targets = np.repeat(np.arange(len(classes)), counts).astype(np.int32)
    return FolderDataset(name, split, root, np.array(paths, np.bytes_), targets, tuple(classes))


def _is_split(location: Path) -> bool:
    return any((location / folder).is_dir() for folder in ("train", "val", "test"))


def _split_root(name: str, location: Path, folders: tuple[str, ...]) -> Path:
    """Find the folder of a split whose classes have the same numbers as the other split's."""
    if not location.is_dir():
        raise DatasetError(f"{name}:{location}: is not a folder")
    here = [location / folder for folder in folders if (location / folder).is_dir()]
    if not here:
        wanted = " or ".join(f"{folder}/" for folder in folders)
        raise DatasetError(f"{name}:{location}: no such split, it has no folder {wanted}")
    train = location / "train"
    if here[0] != train and train.is_dir():
        _require_same_classes(here[0], train)
    return here[0]


def _require_same_classes(root: Path, train: Path) -> None:
    """Refuse a split that lacks a class: all later classes would silently get other numbers."""
    differing = sorted(set(_class_folders(root)) ^ set(_class_folders(train)))
    if differing:
        raise DatasetError(
            f"{root} and {train} differ in {len(differing)} class folders, {differing[0]!r} first, "
            "so a class would have two numbers"
        )


def _class_folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _image_files(root: Path, class_folder: str) -> list[bytes]:
    """List a class folder's images, those of nested folders too, relative to `root`, with `/`."""
    found = []
    walked: list[tuple[str, Any, list[str]]] = sorted(
        os.walk(root / class_folder, followlinks=True)
    )
    for folder, _, names in walked:
        relative = Path(folder).relative_to(root).as_posix()
        found += [
            os.fsencode(f"{relative}/{name}")
            for name in sorted(names)
            if name.lower().endswith(EXTENSIONS)
        ]
    return found
