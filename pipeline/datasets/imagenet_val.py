"""ImageNet's validation images as they are published: one flat folder, their labels beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.datasets.class_folders import Listing
from logitbank.pipeline.datasets.image_dataset import checked_targets, class_names
from logitbank.stores.errors import DatasetError

_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
_WORDNET_ID = re.compile(r"n\d{8}")
_DEVKIT = "ILSVRC2012_devkit_t12/data"
# Kaggle's archive has its table four folders above the images.
_FOLDERS_ABOVE = 4


@dataclass(frozen=True)
class ValLabels:
    """The (N,) int32 class index of each image, and the names of the classes."""

    targets: NDArray[np.int32]
    classes: tuple[str, ...]


def flat_images(root: Path, listing: Listing) -> tuple[str, ...]:
    """Return the names of ImageNet's validation images in a flat folder, in order; else none.

    Raises:
        DatasetError: some are already sorted into class folders, or there are others among them.
    """
    images = listing.images
    found = sum(_IMAGE.fullmatch(image) is not None for image in images)
    if not found:
        return ()
    sorted_into = next((each for each in listing.folders if _WORDNET_ID.fullmatch(each)), None)
    if sorted_into is not None:
        raise DatasetError(
            f"{root}: holds {found:,} of ImageNet's validation images beside class folders, such "
            f"as {sorted_into}: sort all of them into class folders, or none"
        )
    if found < len(images):
        other = next(image for image in images if not _IMAGE.fullmatch(image))
        raise DatasetError(
            f"{root}: {other} lies among ImageNet's validation images: it has no label"
        )
    return images


def flat_val_labels(root: Path, images: Sequence[str], train: tuple[str, ...] | None) -> ValLabels:
    """Read the labels of a flat folder of validation images from the files published with it.

    They are looked for in the folder and in those above it; all that are found must agree.

    Args:
        root: the folder.
        images: names of its images, sorted.
        train: the classes of the training split; None for the sorted WordNet ids.

    Raises:
        DatasetError: there is no such file, or it is for other images or classes.
    """
    places = (root, *root.absolute().parents[:_FOLDERS_ABOVE])
    found = {}
    for names, read in _READERS.items():
        paths = [_found(name, places) for name in names]
        here = [path for path in paths if path is not None]
        if len(here) == len(names):
            found[here[0]] = _numbered(here[0], read(*here, images), train)
    if not found:
        wanted = ", or ".join(" with ".join(names) for names in _READERS)
        raise DatasetError(
            f"{root}: holds {len(images):,} of ImageNet's validation images without class folders, "
            f"and nothing beside them says their labels: put there what is published, {wanted}"
        )
    (first, labels), *others = found.items()
    for path, other in others:
        if not np.array_equal(labels.targets, other.targets):
            raise DatasetError(f"{first} and {path} give ImageNet's images different labels")
    return labels


@dataclass(frozen=True)
class _Published:
    """The classes that a file gives to images in order, by name or by number.

    `classes` are all names, sorted; None where there are only numbers.
    """

    labels: Sequence[str] | Sequence[int]
    classes: tuple[str, ...] | None


def _numbered(path: Path, published: _Published, train: tuple[str, ...] | None) -> ValLabels:
    """Return the labels as class indices, in the order of the training split or of sorted names."""
    if published.classes is None:
        targets = np.array(published.labels, np.int64)
        classes = train or class_names(None, targets, str(path))
        return ValLabels(checked_targets(targets, len(targets), len(classes), str(path)), classes)
    classes = train or published.classes
    number = {name: n for n, name in enumerate(classes)}
    unknown = next((name for name in published.labels if name not in number), None)
    if unknown is not None:
        raise DatasetError(f"{path}: {unknown} is not among the {len(classes)} classes of train/")
    return ValLabels(np.array([number[str(name)] for name in published.labels], np.int32), classes)


def _kaggle(path: Path, images: Sequence[str]) -> _Published:
    """Read `ImageId,PredictionString`, the latter beginning with the class's WordNet id."""
    rows = [line.split(",") for line in _lines(path) if not line.startswith("ImageId,")]
    labels = {row[0]: (row[-1].split() or [""])[0] for row in rows}
    return _by_name(path, _of_images(path, labels, [Path(image).stem for image in images]))


def _synset_labels(path: Path, images: Sequence[str]) -> _Published:
    """Read one WordNet id per line, that of the image with the line's number."""
    return _by_name(path, _in_lines(path, images))


def _caffe(path: Path, images: Sequence[str]) -> _Published:
    """Read `ILSVRC2012_val_00000001.JPEG 65`, with a class's number in WordNet order."""
    pairs = [line.split() for line in _lines(path)]
    labels = {Path(pair[0]).stem: pair[-1] for pair in pairs}
    found = _of_images(path, labels, [Path(image).stem for image in images])
    return _Published(_whole(path, found), None)


def _devkit(path: Path, meta: Path, images: Sequence[str]) -> _Published:
    """Read one number per line, which `meta.mat` maps to WordNet ids, not in their order."""
    numbers = _whole(path, _in_lines(path, images))
    names = _devkit_names(meta)
    unknown = next((number for number in numbers if number not in names), None)
    if unknown is not None:
        raise DatasetError(f"{path}: class {unknown} is not in {meta}")
    return _Published([names[number] for number in numbers], tuple(sorted(names.values())))


_READERS: dict[tuple[str, ...], Callable[..., _Published]] = {
    ("LOC_val_solution.csv",): _kaggle,
    ("imagenet_2012_validation_synset_labels.txt",): _synset_labels,
    ("val.txt",): _caffe,
    ("ILSVRC2012_validation_ground_truth.txt", "meta.mat"): _devkit,
}


def _devkit_names(meta: Path) -> dict[int, str]:
    """Read the WordNet id of each class that is not a group of others, by its number."""
    from scipy.io import loadmat  # Slow to import, and only this file needs it.

    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        leaves = [each for each in synsets if int(each["num_children"]) == 0]
        return {int(each["ILSVRC2012_ID"]): str(each["WNID"]) for each in leaves}
    except Exception as error:  # A damaged file can raise nearly anything.
        cause = str(error) or type(error).__name__
        raise DatasetError(f"{meta}: can't be read as the devkit's table: {cause}") from error


def _found(name: str, places: Sequence[Path]) -> Path | None:
    paths = (place / folder / name for place in places for folder in ("", _DEVKIT))
    return next((path for path in paths if path.is_file()), None)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: can't be read: {error}") from error


def _in_lines(path: Path, images: Sequence[str]) -> list[str]:
    """Return each image's line: the one of the number in the image's name."""
    lines = [line.strip() for line in _lines(path)]
    if len(lines) != len(images):
        raise DatasetError(f"{path}: {len(lines):,} lines for {len(images):,} images")
    numbers = [int(_IMAGE.fullmatch(image)[1]) for image in images]  # type: ignore[index]
    if numbers != list(range(1, len(lines) + 1)):
        raise DatasetError(
            f"{path}: {len(lines):,} lines, but the images are not numbered 1 to {len(lines)}"
        )
    return lines


def _of_images(path: Path, labels: dict[str, str], images: Sequence[str]) -> list[str]:
    if len(labels) != len(images):
        raise DatasetError(f"{path}: labels {len(labels):,} images, but there are {len(images):,}")
    unlabelled = next((image for image in images if image not in labels), None)
    if unlabelled is not None:
        raise DatasetError(f"{path}: has no label for {unlabelled}")
    return [labels[image] for image in images]


def _by_name(path: Path, labels: Sequence[str]) -> _Published:
    wrong = next((label for label in labels if not _WORDNET_ID.fullmatch(label)), None)
    if wrong is not None:
        raise DatasetError(f"{path}: {wrong!r} is not a WordNet id, such as n01440764")
    return _Published(labels, tuple(sorted(set(labels))))


def _whole(path: Path, labels: Sequence[str]) -> list[int]:
    wrong = next((label for label in labels if not re.fullmatch("[0-9]{1,9}", label)), None)
    if wrong is not None:
        raise DatasetError(f"{path}: {wrong!r} is not the number of a class")
    return [int(label) for label in labels]
