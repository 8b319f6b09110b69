"""Errors of writing to a disk, each explained in one line with what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from logitbank.stores.errors import StoreError
from logitbank.stores.files.folders import FOLDER, kind_of


def write_error(path: Path, error: OSError) -> StoreError:
    """Return the error for a file that could not be written: why, and what to do."""
    if is_disk_full(error):
        return StoreError(
            f"the disk is full: {path} was not written; nothing is lost, free some space and run "
            "the same command again"
        )
    obstacle = obstacle_above(path)
    if obstacle is not None:
        return StoreError(f"{path} can't be written: {obstacle}")
    return StoreError(f"{path} can't be written: {error.strerror or error}")


def obstacle_above(path: Path) -> str | None:
    """Return why the folders above a path can't be made, None if they can."""
    for above in path.absolute().parents:
        try:
            kind = kind_of(os.stat(above))
        except FileNotFoundError:
            if os.path.islink(above):
                return f"{above} is a link that leads nowhere"
            continue
        except OSError:
            continue
        return None if kind == FOLDER else f"{above} is {kind}, not a folder"
    return None


def is_disk_full(error: OSError) -> bool:
    """Return whether an error means that no space or no quota is left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
