"""Virtual stores: corrected ones that are their manifest alone and read the chunks of their parent.

The folder holds `zarr.json` and nothing else. Its digest covers the identity fields, the parent's
digest among them, and with it every byte of the parent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

from logitbank.stores.documents import (
    ROOT_KEY,
    DamagedDocumentError,
    check_seal,
    read_manifest,
)
from logitbank.stores.errors import StoreError
from logitbank.stores.files import PARTIAL, Files, LocalFiles, write_error
from logitbank.stores.manifest import Manifest, canonical_json, identity_differences
from logitbank.stores.seal import document_bytes, root_document


def virtual_manifest(corrected: Manifest, parent_where: str, location: str | Path) -> Manifest:
    """Describe the virtual store that reads as a corrected one.

    Args:
        corrected: the manifest of the full store that its parent's rows would be corrected into.
        parent_where: the parent's path or URL.
        location: where the virtual store will lie.
    """
    rows = corrected.views * corrected.dataset.samples
    measured = dataclasses.replace(
        corrected.measured,
        top1=100.0,
        top5=100.0,
        label_ranks=(rows, *(0,) * corrected.top_classes),
    )
    places = parent_places(parent_where, location)
    return dataclasses.replace(
        corrected,
        kind="virtual",
        measured=measured,
        provenance=dataclasses.replace(corrected.provenance, parent_places=places),
    )


def parent_places(parent: str, location: str | Path) -> tuple[str, ...]:
    """Say where a parent lies, as seen from a store and on this machine."""
    if "://" in parent:
        return (parent,)
    absolute = Path(parent).resolve()
    folder = Path(location).absolute().parent.resolve() / Path(location).name
    return os.path.relpath(absolute, folder), str(absolute)


def virtual_digest(manifest: Manifest) -> str:
    """Compute a virtual store's digest: sha256 hex over its identity fields."""
    return hashlib.sha256(canonical_json(manifest.identity())).hexdigest()


def check_virtual(files: Files, manifest: Manifest) -> None:
    """Require a virtual store's manifest as it was sealed.

    Raises:
        StoreError: it was edited or damaged.
    """
    check_seal(files, manifest)
    if manifest.correction is None or manifest.digest != virtual_digest(manifest):
        raise DamagedDocumentError(files.where, ROOT_KEY, "does not match its digest")


def write_virtual(location: str | Path, wanted: Manifest) -> tuple[Manifest, bool]:
    """Make a virtual store, or find it made already; a damaged manifest is written anew.

    Returns:
        The sealed manifest, and whether it was written now.

    Raises:
        StoreError: the folder holds something else, or can't be written.
    """
    path = Path(location)
    if path.exists():
        found = _found(LocalFiles(path), wanted)
        if found is not None:
            return found, False
    sealed = wanted.sealed(virtual_digest(wanted), datetime.now(UTC).isoformat(timespec="seconds"))
    document = document_bytes(root_document(sealed))
    sibling = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        files = LocalFiles(path if path.exists() else sibling)
        files.put(ROOT_KEY, [document])
        files.sync([ROOT_KEY])
        if not path.exists():
            os.rename(sibling, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(sibling, ignore_errors=True)
    return sealed, True


def _found(files: LocalFiles, wanted: Manifest) -> Manifest | None:
    """Give the manifest of the wanted store that is there, None where it must be written anew."""
    keys = set(files.list_keys()) - {ROOT_KEY}
    others = [key for key in keys if not key.endswith(PARTIAL)]
    try:
        found = read_manifest(files)
    except DamagedDocumentError:
        if others:
            raise
        return None
    if others or found.kind != "virtual":
        raise StoreError(
            f"{files.where} holds other work, a store with arrays of its own: name another --out, "
            "or remove the folder"
        )
    for key in keys:
        files.delete(key)
    if found.seal != found.seal_value():
        return None
    differences = identity_differences(found, wanted)
    if differences:
        raise StoreError(
            f"{files.where} holds other work: {'; '.join(differences)}. "
            "Name another --out, or remove the folder"
        )
    # A parent that moved is written down where it is now.
    moved = found.provenance.parent_places != wanted.provenance.parent_places
    return None if moved else found
