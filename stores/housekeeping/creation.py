"""Creating the empty layout of a new store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.chunks import chunk_parts
from logitbank.stores.documents import ROOT_KEY, UNFINISHED_KEY
from logitbank.stores.errors import StoreError
from logitbank.stores.files import Files
from logitbank.stores.layout import store_arrays
from logitbank.stores.manifest import Manifest
from logitbank.stores.seal import document_bytes, root_document, unfinished_group_document


def create_layout(
    files: Files,
    manifest: Manifest,
    target: NDArray[np.int32],
    sample_id: NDArray[np.uint64],
) -> None:
    """Create the empty layout in one step, safe from a power loss.

    If another process creates the same store at the same moment, the first one's layout stays.

    Args:
        files: the store's, where nothing exists yet.
        manifest: what the store is to hold.
        target: (N,) labels.
        sample_id: (N,) ids.

    Raises:
        StoreError: the location can't be written, or the store would have too many chunks.
    """
    cause = manifest.inconsistency()
    if cause is not None:
        raise StoreError(f"{files.where} can't be made: {cause}")
    arrays = store_arrays(manifest)
    contents: dict[str, Sequence[Any]] = {
        ROOT_KEY: [document_bytes(root_document(manifest.unsealed()))],
        UNFINISHED_KEY: [document_bytes(unfinished_group_document(manifest.identity()))],
    }
    for spec in arrays.values():
        contents[spec.document_key] = [document_bytes(spec.document())]
    for name, values in (("target", target), ("sample_id", sample_id)):
        contents[arrays[name].chunk_key((0,))] = chunk_parts(arrays[name], values)
    files.create(contents)
