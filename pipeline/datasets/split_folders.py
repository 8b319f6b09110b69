"""Split folders, and folders that are one level off: never mistaken for classes."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from logitbank.pipeline.datasets.class_folders import visible_folders
from logitbank.stores.errors import DatasetError

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_LOG = logging.getLogger(__name__)


def split_folders(location: Path) -> dict[str, Path]:
    """Return the folders of splits, by `train`, `val` and `test`; empty where there are none.

    `Training`, `valid` and the like are understood, in any case. One that holds no folders, alone
    among others, is not a split but a class: trains are photographed as well.

    Raises:
        DatasetError: two folders of one split.
    """
    found: dict[str, Path] = {}
    folders = visible_folders(location)
    for folder in folders:
        split = _SPLITS.get(folder.lower())
        if split is None:
            continue
        if split in found:
            raise DatasetError(
                f"{location}: both {found[split].name} and {folder} are named like the {split} "
                f"split: name the one you mean, such as {location / folder}"
            )
        found[split] = location / folder
    if len(found) == 1 and len(folders) > 1 and not any(map(visible_folders, found.values())):
        return {}
    return found


def require_class_level(
    name: str, root: Path, classes: Sequence[str], files: Sequence[Sequence[bytes]]
) -> None:
    """Check that the classes don't seem to lie a level below or above.

    Args:
        name: the kind of dataset.
        root: the folder of class folders.
        classes: their names.
        files: each one's images, relative to `root`.

    Raises:
        DatasetError: one folder around the others, folders that are splits, or classes that hold
            splits.
    """
    here = f"{name}: {root}"
    if len(classes) == 1:
        _require_no_wrapper(name, root, classes[0])
    below = {each: _folders_below(own) for each, own in zip(classes, files, strict=True)}
    named = [each for each in classes if _splits_named(each)]
    if len(named) < len(classes):  # Among others, a class may be a test tube.
        named = [each for each in named if None not in below[each]]
    if len(set().union(*map(_splits_named, named))) > 1:
        raise DatasetError(
            f"{here} holds {' and '.join(named[:2])}, which look like splits rather than classes: "
            f"name one of them, such as {name}:{root / named[0]}, or call them train and val"
        )
    for each, folders in below.items():
        inner = sorted(folder for folder in folders if folder and folder.lower() in _SPLITS)
        if len({_SPLITS[folder.lower()] for folder in inner}) > 1:
            raise DatasetError(
                f"{here}: class folder {each} holds {' and '.join(inner[:2])}: splits must hold "
                f"the class folders, such as {Path(inner[0]) / each}"
            )
    _warn_of_same_folders(here, below)


def _require_no_wrapper(name: str, root: Path, only: str) -> None:
    """Check that a class folder that is the only one does not hold several others, however deep."""
    inner, passed = root / only, set[Path]()
    while len(folders := visible_folders(inner)) == 1 and inner.resolve() not in passed:
        passed.add(inner.resolve())
        inner /= folders[0]
    if len(folders) > 1:
        raise DatasetError(
            f"{name}: {root} holds one folder, {only}, and others lie within it: if those are the "
            f"classes or splits, use {name}:{inner}"
        )


def _folders_below(files: Sequence[bytes]) -> set[str | None]:
    """Return the folders in a class folder that hold images; None is the class folder itself."""
    parts = {tuple(path.split(b"/")[1:-1][:1]) for path in files}
    return {part[0].decode("utf-8", "surrogateescape") if part else None for part in parts}


def _splits_named(folder: str) -> set[str]:
    """Return the splits that the words of a name mean, as in `seg_train` and `TestSet`."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", folder)
    return {_SPLITS[word.lower()] for word in words if word.lower() in _SPLITS}


def _warn_of_same_folders(here: str, below: Mapping[str, set[str | None]]) -> None:
    """Warn if all folders hold the same folders and no images, as in `2023/cat`, `2024/cat`."""
    first, *others = below.values()
    if None not in first and len(first) > 1 and all(each == first for each in others):
        one, other, *_ = below
        inner = ", ".join(sorted(str(folder) for folder in first)[:3])
        _LOG.warning(
            "%s: %s is one class and %s another, and each holds the same folders (%s): if those "
            "are the classes, name a folder that holds them alone",
            *(here, one, other, inner),
        )
