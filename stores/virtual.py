"""Virtual stores: corrected stores that consist of a manifest and read their parent's chunks.

The folder holds `zarr.json` and nothing else. The digest covers the identity fields, which include
the parent's digest, and so every byte of the parent.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime
from pathlib import Path

from logitbank.stores.documents import (
    ROOT_KEY,
    DamagedDocumentError,
    check_seal,
    read_manifest,
)
from logitbank.stores.errors import NotAStoreError, StoreError
from logitbank.stores.files import Files, open_files, parse_location
from logitbank.stores.files.printable import printable
from logitbank.stores.housekeeping.strays import find_strays, remove_strays
from logitbank.stores.manifest import Manifest, canonical_json, identity_differences
from logitbank.stores.recovery import other_work
from logitbank.stores.seal import document_bytes, root_document


def virtual_manifest(corrected: Manifest, parent_where: str, location: str | Path) -> Manifest:
    """Return the manifest of the virtual store that reads like a corrected one.

    Args:
        corrected: the manifest of the corrected store in full.
        parent_where: the parent's path or URL.
        location: the path of the virtual store.
    """
    rows = corrected.views * corrected.dataset.samples
    measured = dataclasses.replace(
        corrected.measured,
        top1=100.0,
        top5=100.0,
        label_ranks=(rows, *(0,) * corrected.top_classes),
    )
    places = parse_location(parent_where).places_from(str(location))
    return dataclasses.replace(
        corrected,
        kind="virtual",
        measured=measured,
        provenance=dataclasses.replace(corrected.provenance, parent_places=places),
    )


def virtual_digest(manifest: Manifest) -> str:
    """Return a virtual store's digest: sha256 hex over its identity fields."""
    return hashlib.sha256(canonical_json(manifest.identity())).hexdigest()


def check_virtual(files: Files, manifest: Manifest) -> None:
    """Check that a virtual store's manifest is unchanged since it was sealed.

    Raises:
        StoreError: it was edited or damaged.
    """
    check_seal(files, manifest)
    if manifest.correction is None or manifest.digest != virtual_digest(manifest):
        raise DamagedDocumentError(files.where, ROOT_KEY, "does not match its digest")


def write_virtual(location: str | Path | Files, wanted: Manifest) -> tuple[Manifest, bool]:
    """Create a virtual store unless it exists; a damaged manifest is rewritten.

    Returns:
        The sealed manifest, and whether it was written.

    Raises:
        StoreError: the folder holds something else, or can't be written.
    """
    files = open_files(location).as_durable()
    sealed = wanted.sealed(virtual_digest(wanted), datetime.now(UTC).isoformat(timespec="seconds"))
    contents = {ROOT_KEY: [document_bytes(root_document(sealed))]}
    is_new = files.is_free()
    if is_new:
        files.create(contents)
    found = _found(files, wanted)
    if found is None:
        files.put_all(contents)
    files.remove_leftovers()
    return found or sealed, is_new or found is None


def _found(files: Files, wanted: Manifest) -> Manifest | None:
    """Return the existing manifest of the wanted store, None if it must be (re)written."""
    others = [stray.key for stray in find_strays(files, {}) if not stray.is_removed]
    try:
        found = read_manifest(files)
    except DamagedDocumentError as error:
        if others:
            raise _holds_more(files, others) from error
        return None
    except NotAStoreError as error:
        raise NotAStoreError(f"{error}: name another --out") from None
    if others or found.kind != "virtual":
        raise _holds_more(files, others)
    remove_strays(files, {})
    if found.seal != found.seal_value():
        return None
    differences = identity_differences(found, wanted)
    if differences:
        raise other_work(files.where, differences)
    # If the parent has moved, its new place is recorded.
    moved = found.provenance.parent_places != wanted.provenance.parent_places
    return None if moved else found


def _holds_more(files: Files, others: list[str]) -> StoreError:
    example = f" (such as {printable(others[0])})" if others else ""
    return StoreError(
        f"{files.where} holds other work, a store with arrays of its own or files that are not "
        f"part of a store{example}: name another --out"
    )
