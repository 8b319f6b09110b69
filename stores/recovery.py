"""Recognising, from what is on disk, whether a folder holds the store that a job wants to resume.

A store that was complete has three witnesses: the manifest with its digest, the tables in `crc/`,
and a copy of the digest beside them. As long as two of them agree, the third can be mended. A store
that was never sealed has two: the manifest, and a copy of its identity in `unfinished/`, which is
enough to resume. A torn manifest is then replaced, not repaired: the job knows the identity, and
measures everything else in it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from logitbank.stores.chunks import ChunkError
from logitbank.stores.documents import (
    CRC_GROUP_KEY,
    UNFINISHED_KEY,
    DamagedDocumentError,
    check_array_document,
    read_document,
    read_manifest,
)
from logitbank.stores.errors import NotAStoreError, StoreError
from logitbank.stores.files import FileError, Files
from logitbank.stores.layout import crc_arrays, store_arrays
from logitbank.stores.manifest import Manifest, differences, identity_differences
from logitbank.stores.seal import (
    CrcTables,
    crc_group_document,
    digest_of,
    read_table,
    unfinished_group_document,
)


@dataclass(frozen=True)
class Recognised:
    """The wanted store as it was found, finished or not.

    `tables` holds the CRCs that bind chunks to their places, for the arrays whose tables can be
    trusted; it is empty if the store was never sealed. `digest` is the one the store was sealed
    with, if it is known but the tables alone can't prove it again. `intact` means that manifest and
    tables are as they were sealed, `manifest_lost` that the manifest on disk can't be read, and
    `witness_lost` that an unfinished store has no copy of its identity.
    """

    manifest: Manifest
    tables: CrcTables
    digest: str | None
    intact: bool
    manifest_lost: bool = False
    witness_lost: bool = False


def recognise(files: Files, wanted: Manifest) -> Recognised:
    """Check that a folder holds the wanted store, and return what of it can be trusted.

    Raises:
        FileError: a file can't be reached or read.
        StoreError: it is not a store, or one of another identity (each differing field is named),
            or too damaged to prove what it holds.
    """
    # The manifest comes first: another process may be sealing, which writes it after the tables.
    found = _manifest_or_error(files)
    tables, tables_whole = _trusted_tables(files, wanted)
    copy = _digest_copy(_document_of(files, CRC_GROUP_KEY))
    witness = _document_of(files, UNFINISHED_KEY)
    proven = digest_of(wanted, store_arrays(wanted), tables) if tables_whole else None
    if isinstance(found, StoreError):
        is_proven = proven is not None and proven == copy
        if not is_proven:
            _require_own_chunks(files, witness, wanted, found)
        bound = tables if is_proven else {}
        return Recognised(wanted.unsealed(), bound, None, intact=False, manifest_lost=True)
    differing = identity_differences(found, wanted)
    sealed_as_it_is = found.seal == found.seal_value()
    if differing:
        if not sealed_as_it_is and found.status == "complete" and proven in (found.digest, copy):
            return Recognised(wanted.unsealed(), tables, None, intact=False)
        raise other_work(files.where, differing)
    if found.status != "complete":
        return Recognised(found, {}, None, intact=False, witness_lost=witness is None)
    if tables_whole and proven in (found.digest, copy):
        agrees = sealed_as_it_is and proven == found.digest == copy and _tables_match(files, wanted)
        kept = found if sealed_as_it_is else wanted.unsealed()
        return Recognised(kept, tables, None, intact=agrees)
    return Recognised(
        found if sealed_as_it_is else wanted.unsealed(),
        {} if tables_whole else tables,
        found.digest,
        intact=False,
    )


def _manifest_or_error(files: Files) -> Manifest | StoreError:
    try:
        return read_manifest(files)
    except FileError:
        raise  # It may well be whole.
    except StoreError as error:
        return error


def _trusted_tables(files: Files, wanted: Manifest) -> tuple[CrcTables, bool]:
    """Return the tables that are not damaged, and whether that is all of them."""
    tables: CrcTables = {}
    specs = crc_arrays(store_arrays(wanted))
    for name, spec in specs.items():
        try:
            tables[name] = read_table(files, spec)
        except ChunkError:
            continue
    return tables, len(tables) == len(specs)


def _tables_match(files: Files, wanted: Manifest) -> bool:
    """Return whether the tables' own metadata matches the layout."""
    try:
        for spec in crc_arrays(store_arrays(wanted)).values():
            check_array_document(files, spec)
    except DamagedDocumentError:
        return False
    return True


def other_work(where: str, differing: list[str]) -> StoreError:
    """Return the error for a store of another identity."""
    return StoreError(f"{where} holds other work: {'; '.join(differing)}. Name another --out")


def _require_own_chunks(
    files: Files, witness: dict[str, Any] | None, wanted: Manifest, found: StoreError
) -> None:
    """Check the copy of the identity when the manifest can't be read.

    Args:
        files: the store's.
        witness: the document of `unfinished/`.
        wanted: the manifest that the job wants.
        found: why the manifest can't be read.

    Raises:
        StoreError: the copy is missing or differs, so the chunks may be of other work.
    """
    attributes = {} if witness is None else witness["attributes"]
    identity = attributes.get("identity") if isinstance(attributes, dict) else None
    if isinstance(identity, dict) and witness == unfinished_group_document(identity):
        differing = differences(identity, wanted.identity())
        if differing:
            raise other_work(files.where, differing)
        return
    if isinstance(found, NotAStoreError):
        raise NotAStoreError(f"{found}: name another --out") from None
    if isinstance(found, DamagedDocumentError):
        raise StoreError(
            f"{files.where}: {found.key} {found.cause}, and nothing else there proves whose chunks "
            "these are: name another --out"
        ) from None
    raise found


def _document_of(files: Files, key: str) -> dict[str, Any] | None:
    """Return a group's document, None if it is missing or damaged."""
    try:
        document = read_document(files, key)
    except DamagedDocumentError:
        return None
    return document if "attributes" in document else None


def _digest_copy(document: dict[str, Any] | None) -> str | None:
    attributes = {} if document is None else document["attributes"]
    digest = attributes.get("digest") if isinstance(attributes, dict) else None
    whole = isinstance(digest, str) and document == crc_group_document(digest)
    return digest if whole else None
