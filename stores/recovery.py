"""Telling, from what is on disk, whether a folder is the store a job wants to go on with.

A store that was complete leaves three witnesses: the manifest with its digest, the tables in
`crc/`, and a copy of the digest beside them. While two of them agree, the third can be mended. One
that was never sealed leaves two, the manifest and a copy of its identity in `crc/`: with the copy
alone the work goes on. What is left of a torn manifest is then replaced, not kept: the job knows
the identity, and measures again what else was in it.
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
    """A folder that holds the wanted store, finished or not.

    `tables` are the CRCs that bind chunks to their places, for the arrays whose tables can be
    trusted; empty for a store that was never sealed. `digest` is the one the store was sealed with,
    where it is known and the tables alone can't prove it again. `intact` says that manifest and
    tables are as they were sealed; `manifest_lost`, that the one on disk can't be read;
    `witness_lost`, that nothing beside the manifest of an unfinished store says its identity.
    """

    manifest: Manifest
    tables: CrcTables
    digest: str | None
    intact: bool
    manifest_lost: bool = False
    witness_lost: bool = False


def recognise(files: Files, wanted: Manifest) -> Recognised:
    """Decide whether a folder holds the wanted work.

    Raises:
        FileError: a file can't be reached or read.
        StoreError: it is not a store, or one of another identity (each differing field is named),
            or so damaged that what it holds can't be proved.
    """
    # First the manifest: another process may be sealing, which writes it after the tables.
    found = _manifest_there(files)
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
        agrees = sealed_as_it_is and proven == found.digest == copy and _described(files, wanted)
        kept = found if sealed_as_it_is else wanted.unsealed()
        return Recognised(kept, tables, None, intact=agrees)
    return Recognised(
        found if sealed_as_it_is else wanted.unsealed(),
        {} if tables_whole else tables,
        found.digest,
        intact=False,
    )


def _manifest_there(files: Files) -> Manifest | StoreError:
    try:
        return read_manifest(files)
    except FileError:
        raise  # It may be whole: nothing is known of it.
    except StoreError as error:
        return error


def _trusted_tables(files: Files, wanted: Manifest) -> tuple[CrcTables, bool]:
    """Read the tables that are not damaged; say whether that is all of them."""
    tables: CrcTables = {}
    specs = crc_arrays(store_arrays(wanted))
    for name, spec in specs.items():
        try:
            tables[name] = read_table(files, spec)
        except ChunkError:
            continue
    return tables, len(tables) == len(specs)


def _described(files: Files, wanted: Manifest) -> bool:
    """Say whether the tables' own metadata is as it should be."""
    try:
        for spec in crc_arrays(store_arrays(wanted)).values():
            check_array_document(files, spec)
    except DamagedDocumentError:
        return False
    return True


def other_work(where: str, differing: list[str]) -> StoreError:
    """Build the error for a store of another identity."""
    return StoreError(f"{where} holds other work: {'; '.join(differing)}. Name another --out")


def _require_own_chunks(
    files: Files, witness: dict[str, Any] | None, wanted: Manifest, found: StoreError
) -> None:
    """Check that the copy of the identity is the wanted one, where no manifest can be read.

    Args:
        files: the store's.
        witness: the document of `unfinished/`.
        wanted: what the job wants.
        found: why the manifest can't be read.

    Raises:
        StoreError: it is another one, or there is none: the chunks may be of any work.
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
    """Read a group's document, None where it is missing or damaged."""
    try:
        document = read_document(files, key)
    except DamagedDocumentError:
        return None
    return document if "attributes" in document else None


def _digest_copy(beside: dict[str, Any] | None) -> str | None:
    attributes = {} if beside is None else beside["attributes"]
    digest = attributes.get("digest") if isinstance(attributes, dict) else None
    whole = isinstance(digest, str) and beside == crc_group_document(digest)
    return digest if whole else None
