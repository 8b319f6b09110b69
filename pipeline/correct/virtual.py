"""Virtual stores: corrected stores that hold only their manifest."""

from __future__ import annotations

from pathlib import Path

from logitbank.pipeline.correct.manifest import corrected_manifest
from logitbank.stores.corrections import BUILT_IN
from logitbank.stores.errors import UsageError
from logitbank.stores.manifest import Manifest
from logitbank.stores.reader import Store
from logitbank.stores.virtual import virtual_manifest, write_virtual


def write_virtual_store(
    parent: Store, correction: str, location: str | Path
) -> tuple[Manifest, bool]:
    """Write a store that reads as the corrected one and holds only its manifest.

    Returns:
        The sealed manifest, and whether it was newly written.

    Raises:
        UsageError: as `corrected_manifest`, or a correction that changes values: nothing in such a
            store would show that its code changed.
        StoreError: the folder holds something else, or can't be written.
    """
    wanted = corrected_manifest(parent, correction)
    if correction not in BUILT_IN:
        raise UsageError(
            f"--virtual takes {' or '.join(BUILT_IN)}: with {correction}, whose code may change, "
            "write a full store"
        )
    return write_virtual(location, virtual_manifest(wanted, parent.files.location, location))
