"""The place that a local store's folder has, or will have: what is there, and beginning one."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logitbank.stores.errors import StoreError
from logitbank.stores.files.disk_errors import obstacle_above, write_error
from logitbank.stores.files.flushing import flush_all
from logitbank.stores.files.folders import FOLDER, kind_of
from logitbank.stores.files.interface import PARTIAL, AbsentError


def require_folder(path: Path) -> None:
    """Check that a folder, or a link to one, is at a path.

    Raises:
        AbsentError: nothing is there.
        StoreError: something else is there, or it can't be looked at.
    """
    kind: str | None = None
    try:
        kind = kind_of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        if os.path.islink(path):
            kind = "a link that leads nowhere"
    except OSError as error:
        raise StoreError(f"{path} can't be opened: {error.strerror or error}") from error
    if kind is None:
        raise AbsentError(f"there is no store at {path}: no such folder")
    if kind != FOLDER:
        raise StoreError(f"there is no store at {path}: it is {kind}")


def is_free(path: Path) -> bool:
    """Say whether a store can be made at a path: nothing is there, or an empty folder.

    Raises:
        StoreError: what is there, or above, can be no store's folder.
    """
    kind: str | None = None
    try:
        kind = kind_of(os.stat(path))
        if kind == FOLDER:
            return not any(path.iterdir())
    except FileNotFoundError:
        if path.is_symlink():
            kind = "a link that leads nowhere"
    except NotADirectoryError:
        pass
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} can't be looked at: {error}: name another --out") from error
    if kind is not None:
        raise StoreError(f"{path} is {kind}, where a store's folder would lie: name another --out")
    obstacle = obstacle_above(path)
    if obstacle is not None:
        raise StoreError(f"{path} can't be made: {obstacle}: name another --out")
    return True


@contextmanager
def put_in_place(location: Path) -> Iterator[Path]:
    """Yield a folder to fill, whose files are flushed, and rename it into its place afterwards.

    The place is free, or becomes another process's meanwhile, whose folder then stays.

    Raises:
        StoreError: it can't be written.
    """
    # A link to an empty folder is followed here: it is the place itself, and nothing within it.
    path = Path(os.path.realpath(location))
    sibling = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield sibling
        os.rename(sibling, path)
        flush_all([path.parent])
    except (OSError, StoreError) as error:
        # Another process that was first clears away what others have begun.
        if _is_taken(path):
            return
        if isinstance(error, StoreError):
            raise
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(sibling, ignore_errors=True)


def _is_taken(path: Path) -> bool:
    """Say whether a folder with something in it is at a path."""
    with contextlib.suppress(OSError):
        return any(path.iterdir())
    return False
