"""Making the empty layout of a store."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.chunks import write_chunk
from logitbank.stores.documents import ROOT_KEY
from logitbank.stores.files import PARTIAL, LocalFiles, write_error
from logitbank.stores.layout import store_arrays
from logitbank.stores.manifest import Manifest
from logitbank.stores.seal import document_bytes, root_document


def create_layout(
    path: Path,
    manifest: Manifest,
    target: NDArray[np.int32],
    sample_id: NDArray[np.uint64],
    *,
    durable: bool = False,
) -> None:
    """Make the empty layout in a sibling folder and rename it into place.

    Where another process makes the same store at the same moment, the first one's layout stays.

    Args:
        path: where the store is to lie; its parent is made if need be.
        manifest: what the store is to hold.
        target: (N,) labels.
        sample_id: (N,) ids.
        durable: whether it is flushed to the disk now, not when the store is sealed.

    Raises:
        StoreError: the folder can't be written.
    """
    sibling = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    files = LocalFiles(sibling, durable=durable)
    try:
        files.put(ROOT_KEY, [document_bytes(root_document(manifest.unsealed()))])
        arrays = store_arrays(manifest)
        for spec in arrays.values():
            files.put(spec.document_key, [document_bytes(spec.document())])
        write_chunk(files, arrays["target"], (0,), target)
        write_chunk(files, arrays["sample_id"], (0,), sample_id)
        with contextlib.suppress(FileExistsError):
            _rename_folder(sibling, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(sibling, ignore_errors=True)


def _rename_folder(source: Path, target: Path) -> None:
    """Rename a folder into its place.

    Raises:
        FileExistsError: another process was first.
    """
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise FileExistsError(error.errno, error.strerror, str(target)) from error
        raise
