"""The path of a local store's folder: checking what exists there, and creating the folder."""

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
    """Check that a path is a folder, or a link to one.

    Raises:
        AbsentError: nothing exists there.
        StoreError: it is something else, or can't be accessed.
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
    """Return whether a store can be created at a path: it does not exist or is an empty folder.

    Raises:
        StoreError: it can't become a store's folder, because of what is there or above.
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
        raise StoreError(f"{path} can't be accessed: {error}: name another --out") from error
    if kind is not None:
        raise StoreError(f"{path} is {kind}, not a folder for a store: name another --out")
    obstacle = obstacle_above(path)
    if obstacle is not None:
        raise StoreError(f"{path} can't be made: {obstacle}: name another --out")
    return True


@contextmanager
def put_in_place(location: Path) -> Iterator[Path]:
    """Yield a sibling folder to fill with flushed files, then rename it into place.

    The location is free; if another process has taken it by then, that one's folder stays.

    Raises:
        StoreError: the folder can't be written.
    """
    # A link to an empty folder is followed: it is the store's folder itself, not something in it.
    path = Path(os.path.realpath(location))
    sibling = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield sibling
        os.rename(sibling, path)
        flush_all([path.parent])
    except (OSError, StoreError) as error:
        # A process that was first removes the half-made folders of others.
        if _is_taken(path):
            return
        if isinstance(error, StoreError):
            raise
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(sibling, ignore_errors=True)


def _is_taken(path: Path) -> bool:
    """Return whether a path is a folder that is not empty."""
    with contextlib.suppress(OSError):
        return any(path.iterdir())
    return False
