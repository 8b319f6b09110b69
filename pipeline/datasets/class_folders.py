"""Class folders and their image files: which count, and in what order, as in published readers."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from logitbank.stores.errors import DatasetError

# torchvision.datasets.folder.IMG_EXTENSIONS
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
CLASS_ORDERS = ("natural", "text")
# What operating systems and NAS devices put beside the data, without a leading dot.
_SYSTEM_NAMES = frozenset(
    {
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "__macosx",
        "lost+found",
        "system volume information",
    }
)
_LOG = logging.getLogger(__name__)
_NUMBER = re.compile(r"(\d+)")

Identity = tuple[int, int]
"""A folder's device and inode, the same whatever links lead to it."""


@dataclass(frozen=True)
class Listing:
    """The names in a folder: folders, images, and hidden folders, which never count.

    `links` are those `folders` that are symbolic links.
    """

    folders: tuple[str, ...]
    links: frozenset[str]
    images: tuple[str, ...]
    hidden: tuple[str, ...]

    @classmethod
    def of(cls, folder: str | Path) -> Listing:
        """List a folder; links are followed, hidden entries left out.

        Raises:
            DatasetError: it can't be listed, a link is broken, or what is named like an image is a
                pipe or the like, which would never end.
        """
        folders, links, images, hidden = [], [], [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        hidden += [entry.name] * _is_a(entry, os.DirEntry.is_dir)
                        continue
                    is_image = entry.name.lower().endswith(EXTENSIONS)
                    if is_image and entry.is_file(follow_symlinks=False):  # The usual case.
                        images.append(entry.name)
                    elif _is_a(entry, os.DirEntry.is_dir):
                        folders.append(entry.name)
                        if entry.is_symlink():
                            links.append(entry.name)
                    elif _is_a(entry, os.DirEntry.is_file):
                        if is_image:
                            images.append(entry.name)
                    elif entry.is_symlink():
                        raise DatasetError(f"{entry.path}: is a broken link: repair or remove it")
                    elif is_image:
                        raise DatasetError(
                            f"{entry.path}: is named like an image but is not a file"
                        )
        except OSError as error:
            where = error.filename or folder
            raise DatasetError(f"{where}: can't be listed: {error.strerror}") from error
        return cls(
            tuple(sorted(folders)),
            frozenset(links),
            tuple(sorted(images)),
            tuple(sorted(hidden)),
        )


def is_hidden(name: str) -> bool:
    """Return whether a name is a program's rather than a person's: never a class or image.

    >>> [is_hidden(name) for name in (".ipynb_checkpoints", "._0.jpg", "__MACOSX", "cat")]
    [True, True, True, False]
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def visible_folders(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder, sorted; none if it does not exist.

    Raises:
        DatasetError: it can't be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if not is_hidden(entry.name) and _is_a(entry, os.DirEntry.is_dir)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise DatasetError(f"{folder}: can't be listed: {error.strerror}") from error
    return tuple(sorted(names))


def class_folders(root: Path, listing: Listing) -> tuple[str, ...]:
    """Return the names of the class folders of a listed folder, sorted as text.

    Links back to it don't count, nor do hidden folders, which a warning names.
    """
    if listing.hidden:
        _LOG.warning("%s: hidden folders are not classes: %s", root, ", ".join(listing.hidden))
    above = _with_ancestors(root)
    return tuple(
        name
        for name in listing.folders
        if name not in listing.links or _identity(root / name) not in above
    )


def ordered_classes(names: Sequence[str], order: str | None, spec: str) -> tuple[str, ...]:
    """Return class folders in the order in which published readers number them.

    torchvision's ImageFolder sorts them as text, 1, 10, 2; timm's reader by the numbers in their
    names and without regard to capitals, 1, 2, 10.

    Args:
        names: of the folders.
        order: `text` or `natural`; None takes the order that both readers agree on; if they differ
            only about capitals, `text`.
        spec: the dataset's, for the message.

    Raises:
        DatasetError: `order` is None and the readers disagree about numbers.
    """
    as_text = sorted(names)
    by_number = sorted(as_text, key=lambda name: _natural(name.lower()))
    if order == "natural":
        return tuple(by_number)
    if order is None and as_text != by_number:
        at = next(n for n, name in enumerate(as_text) if name != by_number[n])
        orders = (
            f"class {at} is {as_text[at]!r} in the order of text, as torchvision's ImageFolder "
            f"numbers class folders, but {by_number[at]!r} in that of numbers, as timm's reader "
            "does"
        )
        if as_text != sorted(as_text, key=_natural):
            raise DatasetError(
                f"{spec}: {orders}: use {spec}@text or {spec}@natural, as the teacher was trained"
            )
        _LOG.warning(
            "%s: %s, without regard to capitals; text is taken: choose by %s@natural or %s@text",
            *(spec, orders, spec, spec),
        )
    return tuple(as_text)


def image_files(root: Path, classes: Sequence[str]) -> list[list[bytes]]:
    """Return each class's images, nested folders included, relative to `root`, with `/`.

    They are sorted by folder, then by name. A folder that is reached by several paths counts once,
    under the path without links; links to a folder that they lie in are not followed.

    Raises:
        DatasetError: as `Listing.of`; or one folder is part of two classes.
    """
    above, paths = _with_ancestors(root), dict[Identity, str]()
    return [_images_of(root, name, above, paths) for name in classes]


def _images_of(
    root: Path, name: str, above: frozenset[Identity], paths: dict[Identity, str]
) -> list[bytes]:
    """Return one class's images; `paths` holds the path by which each folder was first reached."""
    found: dict[str, tuple[str, ...]] = {}
    folders, links = [name], list[str]()
    while folders or links:
        path = folders.pop() if folders else links.pop(0)
        here = _identity(root / path)
        if here in above:
            continue
        first = paths.setdefault(here, path)
        if first.partition("/")[0] != name:
            raise DatasetError(
                f"{root}: {first} and {path} are the same folder, by a link, so its images would "
                "have two classes: remove one of the two"
            )
        if path in found or first != path:
            continue
        listing = Listing.of(root / path)
        found[path] = listing.images
        for folder in listing.folders:
            (links if folder in listing.links else folders).append(f"{path}/{folder}")
    return [os.fsencode(f"{path}/{image}") for path in sorted(found) for image in found[path]]


def _natural(name: str) -> list[str | int]:
    """Return timm's sort key: text and numbers alternating."""
    parts: list[str | int] = list(_NUMBER.split(name))
    parts[1::2] = [int(part) for part in parts[1::2]]
    return parts


def _is_a(entry: os.DirEntry[str], is_kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    """Return whether an entry is of a kind; a link to itself is of none."""
    try:
        return is_kind(entry)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _with_ancestors(root: Path) -> frozenset[Identity]:
    """Return the identities of a folder and of all folders above it."""
    real = root.resolve()
    return frozenset(_identity(folder) for folder in (real, *real.parents))


def _identity(folder: Path) -> Identity:
    try:
        found = os.stat(folder)
    except OSError as error:
        raise DatasetError(f"{folder}: can't be listed: {error.strerror}") from error
    return found.st_dev, found.st_ino
