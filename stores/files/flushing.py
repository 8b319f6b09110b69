"""Making sure of what a power loss may take: files, their names, and the folders made for them.

A file is safe once its data is flushed, then renamed into its place, then that place, its folder,
is flushed too. A new folder is an entry of the one above, which has to be flushed for it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 16

# Some file systems have nothing to flush of a folder; one that may not be read can't be flushed.
NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and what is missing above it.

    Returns:
        The folders that got a new one, to be flushed; none where all was there.
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
    """Flush files or folders to the disk, many at a time.

    Raises:
        OSError: the disk refuses one, which is its `filename`.
    """
    if len(paths) < 2:
        for path in paths:
            _flush(path)
        return
    # A file system writes one journal for all that is flushed at a time.
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
