"""Flushing to disk what a power loss could take: files, their names, and folders made for them.

A file is safe once its data is flushed, it is renamed into place, and the folder it lies in is
flushed too. A new folder is an entry in its parent, which must be flushed as well.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 16

# Some file systems can't flush folders; a folder without read permission can't be flushed at all.
NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and its missing parents.

    Returns:
        The folders that have a new entry and must be flushed; empty if nothing was missing.
    """
    try:
        os.mkdir(folder)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return []
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        above = make_folders(folder.parent)
        return [*above, *make_folders(folder)]
    return [folder.parent]


def flush_all(paths: Sequence[Path]) -> None:
    """Flush files or folders to the disk, several at a time.

    Raises:
        OSError: one can't be flushed; it is the error's `filename`.
    """
    if len(paths) < 2:
        for path in paths:
            _flush(path)
        return
    # A file system commits its journal once for everything that is flushed concurrently.
    with ThreadPoolExecutor(min(THREADS, len(paths))) as pool:
        for _ in pool.map(_flush, paths):
            pass


def _flush(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NOT_FOR_FOLDERS or not path.is_dir():
            raise OSError(error.errno, error.strerror, str(path)) from error
