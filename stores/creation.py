"""Making the empty layout of a store where nothing is yet."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.chunks import chunk_parts
from logitbank.stores.documents import ROOT_KEY, UNFINISHED_KEY
from logitbank.stores.errors import StoreError
from logitbank.stores.files import PARTIAL, LocalFiles, obstacle_above, write_error
from logitbank.stores.flushing import flush_all
from logitbank.stores.folders import FOLDER, kind_of
from logitbank.stores.layout import store_arrays
from logitbank.stores.manifest import Manifest
from logitbank.stores.seal import document_bytes, root_document, unfinished_group_document


def is_free(location: str | Path) -> bool:
    """Say whether a store can be made at a path: nothing is there, or an empty folder.

    Raises:
        StoreError: what is there, or above, can be no store's folder.
    """
    path = Path(location)
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


def create_layout(
    location: Path,
    manifest: Manifest,
    target: NDArray[np.int32],
    sample_id: NDArray[np.uint64],
) -> None:
    """Make the empty layout in a sibling folder, flush it, and rename it into place.

    Where another process makes the same store at the same moment, the first one's layout stays.

    Args:
        location: where the store is to lie; its parent is made if need be.
        manifest: what the store is to hold.
        target: (N,) labels.
        sample_id: (N,) ids.

    Raises:
        StoreError: the folder can't be written, or the store would have too many chunks.
    """
    cause = manifest.impossibility()
    if cause is not None:
        raise StoreError(f"{location} can't be made: {cause}")
    arrays = store_arrays(manifest)
    contents: dict[str, Sequence[Any]] = {
        ROOT_KEY: [document_bytes(root_document(manifest.unsealed()))],
        UNFINISHED_KEY: [document_bytes(unfinished_group_document(manifest.identity()))],
    }
    for spec in arrays.values():
        contents[spec.document_key] = [document_bytes(spec.document())]
    for name, values in (("target", target), ("sample_id", sample_id)):
        contents[arrays[name].chunk_key((0,))] = chunk_parts(arrays[name], values)
    with put_in_place(location) as files:
        files.put_all(contents)


@contextmanager
def put_in_place(location: Path) -> Iterator[LocalFiles]:
    """Give a folder to fill, whose files are flushed, and rename it into its place afterwards.

    The place is free, or becomes another process's meanwhile, whose folder then stays.

    Raises:
        StoreError: it can't be written.
    """
    # A link to an empty folder is followed here: it is the place itself, and nothing within it.
    path = Path(os.path.realpath(location))
    sibling = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield LocalFiles(sibling, durable=True)
        os.rename(sibling, path)
        flush_all([path.parent])
    except (OSError, StoreError) as error:
        # Another process that was first clears away what others have begun.
        if is_taken(path):
            return
        if isinstance(error, StoreError):
            raise
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(sibling, ignore_errors=True)


def is_taken(path: Path) -> bool:
    """Say whether a folder with something in it is at a path."""
    with contextlib.suppress(OSError):
        return any(path.iterdir())
    return False
