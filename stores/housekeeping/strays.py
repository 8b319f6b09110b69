"""Strays: what lies in a store's folder without being part of the store.

A job removes only what a job can have left: temporary files, and anything that lies where a chunk
would. Everything else may be the user's, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from logitbank.stores.documents import CRC_GROUP_KEY, ROOT_KEY, UNFINISHED_KEY
from logitbank.stores.files import FILE, FOLDER, LINK, PARTIAL, Entry, Files
from logitbank.stores.layout import ArraySpec, crc_arrays, store_keys

EMPTY = "an empty folder"
_CHUNK_PLACE = re.compile(r"c(/[0-9]+)*")


@dataclass(frozen=True)
class Stray:
    """Something that is not part of the store; `is_removed` if the store's job removes it."""

    key: str
    kind: str
    is_removed: bool


def find_strays(files: Files, arrays: dict[str, ArraySpec]) -> Iterator[Stray]:
    """Yield what is not part of a store; of folders only the empty ones.

    Args:
        files: the store's; where they can't be listed, nothing is found.
        arrays: its arrays, none for a virtual store.
    """
    entries, known = list(files.list() or ()), _known_keys(arrays)
    needed = _folders_of(known)
    others = [entry.key for entry in entries if entry.kind != FOLDER]
    filled = _folders_of(others) | set(others)
    hollow = {entry.key for entry in entries if entry.kind == FOLDER} - filled - needed
    for entry in entries:
        if entry.kind == FOLDER:
            # A folder in a hollow one, which holds nothing but folders, is hollow too.
            if entry.key in hollow and _folder_of(entry.key) not in hollow:
                is_removed = entry.key in known or _in_place(entry, arrays)
                yield Stray(entry.key, EMPTY, is_removed)
        elif entry.key not in known:
            # A link in a folder's place may lead to chunks that took long to compute: it stays.
            leads_on = entry.kind == LINK and entry.key in needed
            yield Stray(entry.key, entry.kind, not leads_on and _in_place(entry, arrays))


def remove_strays(files: Files, arrays: dict[str, ArraySpec]) -> list[str]:
    """Remove the strays that a job removes when it is run again, and folders left empty.

    Returns:
        The keys removed.

    Raises:
        FileError: one can't be removed.
    """
    strays = [stray for stray in find_strays(files, arrays) if stray.is_removed]
    for stray in strays:
        if stray.kind != EMPTY:
            files.delete(stray.key)
    if not strays:
        return []
    empty = [s.key for s in find_strays(files, arrays) if s.is_removed and s.kind == EMPTY]
    folders = [entry.key for entry in files.list() or () if entry.kind == FOLDER]
    for key in sorted(folders, reverse=True):
        if any(f"{key}/".startswith(f"{folder}/") for folder in empty):
            files.delete(key)
    return [stray.key for stray in strays]


def _known_keys(arrays: dict[str, ArraySpec]) -> set[str]:
    if not arrays:
        return {ROOT_KEY}
    return {
        ROOT_KEY,
        CRC_GROUP_KEY,
        UNFINISHED_KEY,
        *store_keys(arrays),
        *store_keys(crc_arrays(arrays)),
    }


def _folders_of(keys: Iterable[str]) -> set[str]:
    folders: set[str] = set()
    for key in keys:
        folder = _folder_of(key)
        while folder and folder not in folders:
            folders.add(folder)
            folder = _folder_of(folder)
    return folders


def _folder_of(key: str) -> str:
    return key.rpartition("/")[0]


def _in_place(entry: Entry, arrays: Iterable[str]) -> bool:
    """Return whether an entry is a temporary file, or lies where a chunk of an array would."""
    if entry.kind == FILE and entry.key.endswith(PARTIAL):
        return True
    array, _, place = entry.key.partition("/")
    return array in arrays and _CHUNK_PLACE.fullmatch(place) is not None
