"""Reading and writing bytes by key: one interface, `Files`, over a folder, a URL or memory.

A location, the text that names a store, is parsed once, here; no other code looks at its kind.
"""

from __future__ import annotations

from pathlib import Path

from logitbank.stores.files.disk_errors import is_disk_full, write_error
from logitbank.stores.files.folders import FILE, FOLDER, LINK, Entry
from logitbank.stores.files.interface import (
    PARTIAL,
    UNKNOWN_SIZE,
    AbsentError,
    FileError,
    Files,
    OddFileError,
    OpenedFile,
)
from logitbank.stores.files.local import LocalFiles
from logitbank.stores.files.location import Url, is_url, parse_location, without_secrets
from logitbank.stores.files.memory import MemoryFiles
from logitbank.stores.files.object_store import ObjectStoreFiles

__all__ = [
    "FILE",
    "FOLDER",
    "LINK",
    "PARTIAL",
    "UNKNOWN_SIZE",
    "AbsentError",
    "Entry",
    "FileError",
    "Files",
    "LocalFiles",
    "MemoryFiles",
    "ObjectStoreFiles",
    "OddFileError",
    "OpenedFile",
    "files_at",
    "is_disk_full",
    "is_url",
    "open_files",
    "parse_location",
    "without_secrets",
    "write_error",
]


def open_files(location: str | Path | Files) -> Files:
    """Return the files at a location, which need not exist yet.

    Args:
        location: a path, a URL, or files, which are returned unchanged.

    Raises:
        StoreError: a URL that can't be opened.
    """
    if isinstance(location, Files):
        return location
    place = parse_location(location)
    return ObjectStoreFiles(place.text) if isinstance(place, Url) else LocalFiles(place.text)


def files_at(location: str | Path | Files) -> Files:
    """Return the files at an existing location.

    Raises:
        AbsentError: nothing exists at the path.
        StoreError: the path is not a folder, or as `open_files`.
    """
    files = open_files(location)
    files.require_exists()
    return files
