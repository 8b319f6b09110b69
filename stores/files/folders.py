"""Listing a folder at any depth: files, and everything else that can lie in their place."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE, FOLDER, LINK = "a file", "a folder", "a link"


@dataclass(frozen=True)
class Entry:
    """An entry of a folder: its key (the relative path), what it is, and its size in bytes."""

    key: str
    kind: str
    size: int


def kind_of(status: os.stat_result) -> str:
    """Return what a path is, in words that can follow "is"."""
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return FILE
    if stat.S_ISDIR(mode):
        return FOLDER
    if stat.S_ISLNK(mode):
        return LINK
    return "a named pipe" if stat.S_ISFIFO(mode) else "a socket or device"


def entries_of(root: Path) -> Iterator[Entry]:
    """Yield all entries of a folder at any depth, folders before their content.

    Links are not followed. The `kind` of a folder that can't be listed says so; a folder that does
    not exist is empty.
    """
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            found = _listed(root, folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield Entry(folder or ".", f"{FOLDER} that can't be listed ({error.strerror})", 0)
            continue
        yield from found
        waiting += [entry.key for entry in reversed(found) if entry.kind == FOLDER]


def _listed(root: Path, folder: str) -> list[Entry]:
    found = []
    with os.scandir(os.path.join(root, folder)) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # Another process has just renamed its temporary file.
            key = f"{folder}/{entry.name}" if folder else entry.name
            found.append(Entry(key, kind_of(status), status.st_size))
    return sorted(found, key=lambda entry: entry.key)
